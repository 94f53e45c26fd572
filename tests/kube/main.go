// Command kube is a Kubernetes control plane in one process, and kubectl: the published modules
// of the API server, the controller manager and the scheduler, with etcd inside.
//
//	kube prepare FOLDER          keys, certificates and the kubeconfig of an administrator
//	kube serve FOLDER FLAGS...   the control plane, until it is told to end; its state stays in FOLDER. FLAGS are more
//	                             of the API server's
//	kube kubectl ARGUMENTS...    kubectl
package main

import (
	"errors"
	"fmt"
	"os"

	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "kube:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	switch {
	case len(arguments) > 0 && arguments[0] == "kubectl":
		os.Args = arguments
		os.Exit(cli.Run(kubectl.NewDefaultKubectlCommand()))
		return nil
	case len(arguments) == 2 && arguments[0] == "prepare":
		return prepare(folder(arguments[1]))
	case len(arguments) >= 2 && arguments[0] == "serve":
		return serve(folder(arguments[1]), arguments[2:])
	}
	return errors.New("usage: kube prepare FOLDER | kube serve FOLDER FLAGS... | kube kubectl ARGUMENTS...")
}
