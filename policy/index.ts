import { PolicyPack } from "@pulumi/policy";
import { policies } from "./rules";

new PolicyPack("aks-acr", { policies });
