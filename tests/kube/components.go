package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/client-go/tools/cache"
	cliflag "k8s.io/component-base/cli/flag"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	apioptions "k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	controlleroptions "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	scheduleroptions "k8s.io/kubernetes/cmd/kube-scheduler/app/options"
)

// The components are started through their options, not through their commands: each command
// takes the signals of the whole process for itself.

// What of the controller manager a mesh meets. Clouds, volumes, certificates and the allocation
// of node addresses are left out.
var controllers = []string{
	"clusterrole-aggregation-controller",
	"cronjob-controller",
	"daemonset-controller",
	"deployment-controller",
	"disruption-controller",
	"endpoints-controller",
	"endpointslice-controller",
	"endpointslice-mirroring-controller",
	"garbage-collector-controller",
	"horizontal-pod-autoscaler-controller",
	"job-controller",
	"namespace-controller",
	"node-lifecycle-controller",
	"pod-garbage-collector-controller",
	"replicaset-controller",
	"resourcequota-controller",
	"root-ca-certificate-publisher-controller",
	"serviceaccount-controller",
	"serviceaccount-token-controller",
	"statefulset-controller",
	"taint-eviction-controller",
	"ttl-after-finished-controller",
}

// runAPIServer runs it with flags of its own besides those of every control plane.
func runAPIServer(ctx context.Context, home folder, more []string) error {
	host, port, err := home.address()
	if err != nil {
		return err
	}
	const issuer = "https://kubernetes.default.svc.cluster.local"
	options := apioptions.NewServerRunOptions()
	if err := parse(options.Flags(), append([]string{
		"--advertise-address=" + advertised,
		"--allow-privileged=true",
		"--audit-log-path=" + home.path(auditFile),
		"--audit-policy-file=" + home.path(auditPolicyFile),
		"--authorization-mode=Node,RBAC",
		"--bind-address=" + host,
		"--cert-dir=" + string(home),
		"--client-ca-file=" + home.path(authorityFile),
		"--egress-selector-config-file=" + home.path(egressFile),
		"--enable-admission-plugins=NodeRestriction",
		"--etcd-servers=unix://" + home.path(etcdSocket),
		"--kubelet-client-certificate=" + home.path(kubeletClientFile),
		"--kubelet-client-key=" + home.path(kubeletKeyFile),
		// The way to nodes knows no names.
		"--kubelet-preferred-address-types=InternalIP",
		"--secure-port=" + port,
		"--service-account-issuer=" + issuer,
		"--service-account-key-file=" + home.path(tokenKeyFile),
		"--service-account-signing-key-file=" + home.path(tokenKeyFile),
		"--service-cluster-ip-range=" + serviceRanges,
		"--tls-cert-file=" + home.path(servingFile),
		"--tls-private-key-file=" + home.path(servingKeyFile),
	}, more...)...); err != nil {
		return err
	}
	if err := options.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	completed, err := options.Complete(ctx)
	if err != nil {
		return err
	}
	if problems := completed.Validate(); len(problems) != 0 {
		return errors.Join(problems...)
	}
	return apiserver.Run(ctx, completed)
}

func runControllers(ctx context.Context, home folder) error {
	options, err := controlleroptions.NewKubeControllerManagerOptions()
	if err != nil {
		return err
	}
	known := controllermanager.KnownControllers()
	disabled := controllermanager.ControllersDisabledByDefault()
	aliases := controllermanager.ControllerAliases()
	flags := options.Flags(known, disabled, aliases)
	options.ParsedFlags = &flags
	if err := parse(flags,
		"--controllers="+strings.Join(controllers, ","),
		"--kubeconfig="+home.path(controllersFile),
		"--leader-elect=false",
		"--root-ca-file="+home.path(authorityFile),
		"--secure-port=0",
		"--service-account-private-key-file="+home.path(tokenKeyFile),
		// Each controller has the role that is its own, as on clusters.
		"--use-service-account-credentials=true",
	); err != nil {
		return err
	}
	config, err := options.Config(ctx, known, disabled, aliases)
	if err != nil {
		return err
	}
	return controllermanager.Run(ctx, config.Complete())
}

func runScheduler(ctx context.Context, home folder) error {
	options := scheduleroptions.NewOptions()
	if err := parse(*options.Flags,
		"--kubeconfig="+home.path(schedulerFile),
		"--leader-elect=false",
		"--secure-port=0",
	); err != nil {
		return err
	}
	name, err := cache.NewInformerName("kube-scheduler")
	if err != nil {
		return err
	}
	options.InformerName = name
	config, made, err := scheduler.Setup(ctx, options)
	if err != nil {
		return err
	}
	return scheduler.Run(ctx, config, made)
}

// parse sets the options behind flags as a command line would.
func parse(flags cliflag.NamedFlagSets, arguments ...string) error {
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	for _, set := range flags.FlagSets {
		all.AddFlagSet(set)
	}
	return all.Parse(arguments)
}
