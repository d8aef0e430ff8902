// Package localcluster runs a whole cluster on this machine: one xpd process for
// each node, each with its own PostgreSQL, all on loopback and below one folder.
// It also breaks them on purpose, by kill -9 and by orderly stops.
//
// The processes are real and so is their data: the same folder resumes the same
// cluster. What a Cluster starts it also ends: Stop leaves no process of its
// folder behind, and if this process dies, its xpd processes are told to stop.
//
// A secured cluster has a CA, certificates and tokens of its own in its folder. Client
// and Env let in whoever has the Cluster.
package localcluster
