import fc from "fast-check";
import { type Properties, unknown } from "../../../sandbox/provider";
import {
    changedPaths,
    clusterDifference,
    importedInputs,
    objectDifference,
    refreshed,
} from "../../../sandbox/providers/difference";

const deployment = (spec: Properties = {}, metadata: Properties = {}) => ({
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "nginx0", namespace: "nginx", ...metadata },
    spec: { replicas: 2, selector: { matchLabels: { app: "nginx0" } }, ...spec },
});

describe("what changes of an object", () => {
    it("is nothing where the inputs are the same", () => {
        expect(objectDifference(deployment(), deployment())).toEqual({
            changed: [],
            replaces: [],
            deleteBeforeReplace: false,
        });
    });

    it("is updated in place where the API server can", () => {
        expect(objectDifference(deployment(), deployment({ replicas: 3 }))).toMatchObject({
            changed: ["spec.replicas"],
            replaces: [],
        });
    });

    it("takes the old object away first where a new selector needs a new one of the same name", () => {
        const news = deployment({ selector: { matchLabels: { app: "other" } } });
        expect(objectDifference(deployment(), news)).toEqual({
            changed: ["spec.selector.matchLabels.app"],
            replaces: ["spec.selector.matchLabels.app"],
            deleteBeforeReplace: true,
        });
    });

    it("is a new object beside the old one under another name or in another namespace, known or not", () => {
        for (const metadata of [{ name: "other" }, { namespace: "other" }, { namespace: unknown }]) {
            const path = `metadata.${Object.keys(metadata)[0]}`;
            expect(objectDifference(deployment(), deployment({}, metadata))).toEqual({
                changed: [path],
                replaces: [path],
                deleteBeforeReplace: false,
            });
        }
    });

    it("does not take a property for another whose name begins like it", () => {
        const difference = objectDifference(deployment(), deployment({ selectors: "all" }));
        expect(difference).toMatchObject({ changed: ["spec.selectors"], replaces: [] });
    });
});

describe("changed paths", () => {
    it("are in the engine's syntax, down to what differs", () => {
        const before = {
            labels: { "app.kubernetes.io/name": "a", plain: "x" },
            containers: [{ image: "a" }],
        };
        const after = {
            labels: { "app.kubernetes.io/name": "b" },
            containers: [{ image: "b" }, { image: "c" }],
        };
        expect(changedPaths(before, after)).toEqual([
            'labels["app.kubernetes.io/name"]',
            "labels.plain",
            "containers[0].image",
            "containers[1]",
        ]);
    });

    it("include what is not known yet, even where it was not known before", () => {
        expect(changedPaths({ image: unknown }, { image: unknown })).toEqual(["image"]);
    });
});

describe("a cluster", () => {
    it("is the same under the same identifier, whatever its kubeconfig says or does not say yet", () => {
        const olds = { clusterIdentifier: "id", kubeconfig: "a" };
        for (const kubeconfig of ["b", unknown]) {
            expect(clusterDifference(olds, { clusterIdentifier: "id", kubeconfig })).toEqual({
                changed: ["kubeconfig"],
                replaces: [],
            });
        }
    });

    it("is another under another identifier or one not known yet", () => {
        for (const clusterIdentifier of ["other", unknown]) {
            expect(clusterDifference({ clusterIdentifier: "id" }, { clusterIdentifier })).toEqual({
                changed: ["clusterIdentifier"],
                replaces: ["clusterIdentifier"],
            });
        }
    });
});

describe("refreshed inputs", () => {
    it("show what somebody changed of what the program set", () => {
        const inputs = { metadata: { labels: { a: "1", b: "2" } }, spec: { replicas: 2 } };
        const live = { metadata: { labels: { a: "9" }, uid: "u" }, spec: { replicas: 5, paused: true } };
        expect(
            refreshed(inputs, { ...inputs, metadata: { labels: { a: "1", b: "2" }, uid: "u" } }, live),
        ).toEqual({
            metadata: { labels: { a: "9" } },
            spec: { replicas: 5 },
        });
    });

    it("do not show what the API server writes another way, or does not give back", () => {
        const inputs = { cpu: "0.05", stringData: { a: "secret" }, ports: [{ port: 80 }], changed: "a" };
        const before = { cpu: "50m", ports: [{ port: 80, protocol: "TCP" }], changed: "a" };
        const live = { cpu: "50m", ports: [{ port: 80, protocol: "TCP" }], changed: "b" };
        expect(refreshed(inputs, before, live)).toEqual({
            cpu: "0.05",
            stringData: { a: "secret" },
            ports: [{ port: 80 }],
            changed: "b",
        });
    });

    it("take a list over whole that has become longer", () => {
        expect(refreshed({ list: [1] }, { list: [1] }, { list: [1, 2] })).toEqual({ list: [1, 2] });
    });

    it("are the inputs wherever nothing changed", () => {
        fc.assert(
            fc.property(fc.jsonValue(), fc.jsonValue(), (inputs, live) => {
                expect(refreshed(inputs, live, live)).toEqual(inputs);
            }),
        );
    });

    it("of an object that is taken over are all but its status and the API server's own", () => {
        const live = {
            ...deployment({}, { uid: "u", labels: { a: "1" }, resourceVersion: "1" }),
            status: {},
        };
        expect(importedInputs(live)).toEqual(deployment({}, { labels: { a: "1" } }));
    });
});
