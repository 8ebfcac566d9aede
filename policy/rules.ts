import { clusterPolicies } from "./cluster";
import { podPolicies } from "./pods";
import { registryPolicies } from "./registry";
import { rolePolicies } from "./roles";
import { tagPolicies } from "./tags";

/** All rules, as policies of a pack. */
export const policies = [
    ...registryPolicies,
    ...clusterPolicies,
    ...rolePolicies,
    ...podPolicies,
    ...tagPolicies,
];
