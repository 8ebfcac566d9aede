/** The real things behind the model: a registry is a process, a cluster is a Kubernetes node. */
export interface Infrastructure {
    /** Starts the registry's process, or finds it running; resolves to its login server, e.g. `127.0.0.1:41231`. */
    startRegistry(registry: { id: string; name: string }): Promise<{ loginServer: string }>;
    /** Stops the registry and deletes its images. */
    stopRegistry(registry: { id: string; name: string }): Promise<void>;
    /**
     * Starts a node whose kubelet pulls as the identity with this client id; on a running cluster it only changes that
     * identity. Its API server takes the tokens that `Azure.clusterUser` knows. Resolves once that answers and the node is Ready.
     */
    startCluster(cluster: {
        id: string;
        name: string;
        kubeletClientId: string;
    }): Promise<{ kubeconfig: string; fqdn: string }>;
    /** Stops the cluster and deletes what it holds. */
    stopCluster(cluster: { id: string; name: string }): Promise<void>;
}
