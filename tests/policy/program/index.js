const { RoleAssignment } = require("@pulumi/azure-native/authorization/roleAssignment.js");
const { Registry } = require("@pulumi/azure-native/containerregistry/registry.js");
const { CronJob } = require("@pulumi/kubernetes/batch/v1/cronJob.js");
const { Provider } = require("@pulumi/kubernetes/provider.js");
const { RandomString } = require("@pulumi/random/randomString.js");

new Registry("registry", {
    resourceGroupName: "team",
    registryName: "teamimages",
    location: "westeurope",
    sku: { name: "Standard" },
    adminUserEnabled: true,
    anonymousPullEnabled: true,
});

const subscription = "/subscriptions/a8fa7fd6-0893-411a-a990-7b5545ccf9c4";
const contributor = "b24988ac-6180-42a0-ab88-20f7382dd24c";
new RoleAssignment("kubelet", {
    scope: `${subscription}/resourceGroups/team`,
    principalId: "5b0d4a5e-1111-4222-8333-944445555666",
    principalType: "ServicePrincipal",
    roleDefinitionId: `${subscription}/providers/Microsoft.Authorization/roleDefinitions/${contributor}`,
});

// A cluster that is yet to be made: in a preview nothing is known of it, nor of the image that is yet to be pushed.
const { result: notYetKnown } = new RandomString("later", { length: 8 });
const provider = new Provider("cluster", { kubeconfig: notYetKnown, clusterIdentifier: "team/web" });
const none = { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } };
const containers = [
    { name: "pushed", image: notYetKnown, securityContext: { ...none, privileged: true } },
    { name: "nginx", image: "nginx:1.29", securityContext: none },
];
const template = { spec: { restartPolicy: "Never", hostNetwork: true, containers } };
new CronJob("nightly", { spec: { schedule: "@daily", jobTemplate: { spec: { template } } } }, { provider });
