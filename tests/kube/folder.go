package main

import "path/filepath"

// A folder holds one cluster: its keys, its kubeconfigs and etcd's files. Everything in it goes
// with it.
type folder string

func (f folder) path(name string) string { return filepath.Join(string(f), name) }

// The files of a folder.
const (
	authorityFile     = "ca.crt"
	servingFile       = "serving.crt"
	servingKeyFile    = "serving.key"
	tokenKeyFile      = "tokens.key"
	administratorFile = "kubeconfig"
	controllersFile   = "controllers.kubeconfig"
	schedulerFile     = "scheduler.kubeconfig"
	kubeletClientFile = "kubelet-client.crt"
	kubeletKeyFile    = "kubelet-client.key"
	egressFile        = "egress.yaml"
	egressSocket      = "egress.sock"
	addressFile       = "address"
	auditPolicyFile   = "audit-policy.yaml"
	auditFile         = "audit.log"
	etcdFolder        = "etcd"
	etcdSocket        = "etcd.sock"
	etcdPeerSocket    = "etcd-peer.sock"
)
