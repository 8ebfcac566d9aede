import { resourceGroupName } from "../../components/resourceGroup";
import { inputsOf, mockedStack, resolved, withGroup } from "./stack";

const groupType = "azure-native:resources:ResourceGroup";

describe("the resource group", () => {
    it("is created where none is named", async () => {
        const mocks = await mockedStack();
        expect(await resolved(resourceGroupName("aks-acr", undefined, "dev"))).toMatch(/^aks-acr[\da-f]{8}$/);
        expect(mocks.of(groupType)).toHaveLength(1);
    });

    it("takes tags", async () => {
        const mocks = await mockedStack();
        await resolved(resourceGroupName("aks-acr", undefined, "dev", { tags: { team: "web" } }));
        expect(inputsOf(mocks, groupType)).toEqual({ tags: { team: "web" } });
    });

    it("is never changed where it exists", async () => {
        const mocks = await mockedStack();
        const existing = await withGroup(mocks);
        expect(await resolved(resourceGroupName("aks-acr", existing, "dev"))).toBe("team");
        expect(mocks.resources).toEqual([]);
    });
});
