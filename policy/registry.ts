import { at, azure, policy } from "./rule";

/** Container registries without passwords. */
export const registryPolicies = [
    isOff(
        "registry-no-admin-user",
        "adminUserEnabled",
        "A container registry has no admin user, whose password pulls and pushes everything.",
    ),
    isOff(
        "registry-no-anonymous-pull",
        "anonymousPullEnabled",
        "A container registry lets nobody pull without a login.",
    ),
];

function isOff(name: string, input: string, description: string) {
    const fix = "set it to false and assign a role such as AcrPull to who pulls";
    return policy({
        name,
        description,
        level: "mandatory",
        types: azure("containerregistry:Registry"),
        config: {},
        check: ({ inputs }) => (at(inputs, input) === true ? [`${input} is true; ${fix}`] : []),
    });
}
