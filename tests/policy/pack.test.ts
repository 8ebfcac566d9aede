import { policies } from "../../policy/rules";

describe("the policy pack", () => {
    it("stops an update by every rule, unless the configuration says otherwise", () => {
        expect(policies.map(({ name, enforcementLevel }) => `${name} ${enforcementLevel}`)).toEqual([
            "registry-no-admin-user mandatory",
            "registry-no-anonymous-pull mandatory",
            "cluster-no-local-accounts mandatory",
            "cluster-paid-tier mandatory",
            "cluster-zones mandatory",
            "role-assignments-narrow mandatory",
            "images-by-digest-from-allowed-registry mandatory",
            "no-privileged-pods mandatory",
            "required-tags mandatory",
        ]);
    });

    it("runs with the packages that the checkout has", () => {
        const { dependencies } = require("../../policy/package.json");
        const checkout = require("../../package.json");
        const its = { ...checkout.dependencies, ...checkout.devDependencies };
        expect(dependencies).toEqual(
            Object.fromEntries(Object.keys(dependencies).map((name) => [name, its[name]])),
        );
    });
});
