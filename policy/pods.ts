import { at, isNone, listAt, matches, notYetKnown, policy, show, texts } from "./rule";

const types =
    /^kubernetes:[^:]+:(Pod|Deployment|ReplicaSet|ReplicationController|StatefulSet|DaemonSet|Job|CronJob)$/;

/** The pod's specification in what makes pods. */
function podSpec(type: string, inputs: unknown): unknown {
    if (type.endsWith(":Pod")) return at(inputs, "spec");
    const job = type.endsWith(":CronJob") ? at(inputs, "spec", "jobTemplate") : inputs;
    return at(job, "spec", "template", "spec");
}

/** What is wrong with each container of a pod, said with the container's name. */
function inContainers(spec: unknown, check: (container: unknown) => string[]): string[] {
    const containers = ["initContainers", "containers", "ephemeralContainers"].flatMap((key) =>
        listAt(spec, key),
    );
    return containers.flatMap((container) =>
        check(container).map((problem) => `container ${show(at(container, "name"))}: ${problem}`),
    );
}

/** What pods may run, and with which privileges. */
export const podPolicies = [
    policy<{ registries: string[] }>({
        name: "images-by-digest-from-allowed-registry",
        description: "A container runs one image for good, from a registry of the team's.",
        level: "mandatory",
        types,
        config: {
            registries: texts("Hosts to run images from; * stands for any characters.", ["*.azurecr.io"]),
        },
        check: ({ type, inputs }, { registries }) =>
            inContainers(podSpec(type, inputs), (container) => {
                const image = at(container, "image");
                if (typeof image !== "string") return [];
                const problems: string[] = [];
                if (!/@sha256:[0-9a-f]{64}$/.test(image)) {
                    const fix = "run <repository>@sha256:<digest>, as aks-acr:image makes it";
                    problems.push(`image ${image} is not by digest; ${fix}`);
                }
                const host = registryOf(image);
                if (!registries.some((pattern) => matches(pattern, host))) {
                    const fix = "import it (aks-acr:image.import), or add the host to this rule's registries";
                    problems.push(`image ${image} is from ${host}, not ${registries.join(" or ")}; ${fix}`);
                }
                return problems;
            }),
    }),
    policy<{ capabilities: string[] }>({
        name: "no-privileged-pods",
        description: "A pod has no privileges on its node.",
        level: "mandatory",
        types,
        config: { capabilities: texts("Capabilities that a container may add.", []) },
        check: ({ type, inputs }, { capabilities }) => {
            const spec = podSpec(type, inputs);
            const shared = ["hostNetwork", "hostPID", "hostIPC"].filter((key) => at(spec, key) === true);
            const volumes = listAt(spec, "volumes").filter((volume) =>
                isNone(at(volume, "hostPath"), undefined),
            );
            return [
                ...shared.map((key) => `${key} is true; remove it`),
                ...volumes.map(
                    (volume) =>
                        `volume ${show(at(volume, "name"))} is a hostPath; use an emptyDir or a claim`,
                ),
                ...inContainers(spec, (container) =>
                    privileges(at(container, "securityContext"), capabilities),
                ),
            ];
        },
    }),
];

/** Host of an image's registry, as docker reads it: a first part with a dot or a port, or localhost; else Docker Hub. */
function registryOf(image: string): string {
    const [first = "", ...rest] = image.split("/");
    return rest.length > 0 && /[.:]|^localhost$/.test(first) ? first : "docker.io";
}

/** What of a container's security context gives it privileges, beyond the capabilities that it may add. */
function privileges(context: unknown, capabilities: string[]): string[] {
    const problems: string[] = [];
    if (at(context, "privileged") === true) problems.push("privileged is true; remove it");
    const escalation = at(context, "allowPrivilegeEscalation");
    if (isNone(escalation, false)) {
        problems.push(`allowPrivilegeEscalation is ${show(escalation)}; set it to false`);
    }
    const dropped = at(context, "capabilities", "drop");
    const drops = Array.isArray(dropped) ? dropped : [dropped];
    if (!drops.includes("ALL") && !drops.includes(notYetKnown)) {
        problems.push('capabilities.drop is without ALL; set it to ["ALL"]');
    }
    const added = listAt(context, "capabilities", "add").filter((each) => isNone(each, ...capabilities));
    if (added.length > 0) problems.push(`capabilities.add has ${added.join(", ")}; remove that`);
    return problems;
}
