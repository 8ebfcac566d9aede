/** @type {import("jest").Config} */
const shared = {
    testEnvironment: "node",
    // The Pulumi SDK keeps its state on the global object between files.
    testEnvironmentOptions: { globalsCleanup: "off" },
    transform: { "^.+\\.ts$": ["ts-jest", { diagnostics: false }] },
};

module.exports = {
    // A busy machine is slow, which is no failure.
    testTimeout: 60_000,
    projects: [
        {
            ...shared,
            displayName: "unit",
            testMatch: ["<rootDir>/tests/**/*.test.ts"],
            testPathIgnorePatterns: ["/tests/engine/"],
        },
        { ...shared, displayName: "engine", testMatch: ["<rootDir>/tests/engine/**/*.test.ts"] },
    ],
};
