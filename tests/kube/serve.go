package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// The addresses of a lab: ranges of its services, and its bridge, where the API server's relay
// listens. The API server says so in the endpoints of its own service.
const (
	serviceRanges = "10.96.0.0/16,fd00:10:96::/112"
	advertised    = "172.30.0.1"
)

// ready is what serve writes to standard output when requests are answered and controllers run.
const ready = "kube is ready"

// serve runs etcd, the API server, the controllers and the scheduler, until a signal or the first
// of them that ends. The API server has these flags besides its own.
func serve(home folder, flags []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	store, err := startEtcd(home)
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	defer store.Close()

	failed := make(chan error, 3)
	watched := func(name string, run func(context.Context, folder) error) {
		go func() { failed <- fmt.Errorf("%s ended: %w", name, run(ctx, home)) }()
	}
	watched("kube-apiserver", func(ctx context.Context, home folder) error {
		return runAPIServer(ctx, home, flags)
	})
	client, err := administrator(home)
	if err != nil {
		return err
	}
	if err := awaitReady(ctx, client, failed); err != nil {
		return err
	}
	watched("kube-controller-manager", runControllers)
	watched("kube-scheduler", runScheduler)
	if err := awaitAccounts(ctx, client, failed); err != nil {
		return err
	}
	fmt.Println(ready)
	select {
	case err := <-failed:
		if ctx.Err() == nil {
			return err
		}
	case <-ctx.Done():
	}
	return nil
}

func startEtcd(home folder) (*embed.Etcd, error) {
	config := embed.NewConfig()
	config.Dir = home.path(etcdFolder)
	config.LogLevel = "error"
	// What a test loses in a power cut it does not miss.
	config.UnsafeNoFsync = true
	clients := url.URL{Scheme: "unix", Path: home.path(etcdSocket)}
	peers := url.URL{Scheme: "unix", Path: home.path(etcdPeerSocket)}
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{clients}, []url.URL{clients}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peers}, []url.URL{peers}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	store, err := embed.StartEtcd(config)
	if err != nil {
		return nil, err
	}
	select {
	case <-store.Server.ReadyNotify():
		return store, nil
	case err := <-store.Err():
		return nil, err
	}
}

func administrator(home folder) (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", home.path(administratorFile))
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(rest.AddUserAgent(config, "kube"))
}

// awaitReady waits until the API server says that it is ready.
func awaitReady(ctx context.Context, client *kubernetes.Clientset, failed <-chan error) error {
	return await(ctx, failed, func() bool {
		var status int
		client.RESTClient().Get().AbsPath("/readyz").Do(ctx).StatusCode(&status)
		return status == http.StatusOK
	})
}

// awaitAccounts waits until pods can be made: until then they are refused for want of an account.
func awaitAccounts(ctx context.Context, client *kubernetes.Clientset, failed <-chan error) error {
	return await(ctx, failed, func() bool {
		account := client.RESTClient().Get().
			AbsPath("/api/v1/namespaces/default/serviceaccounts/default").Do(ctx)
		return account.Error() == nil
	})
}

func await(ctx context.Context, failed <-chan error, met func() bool) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			return errors.New("told to end before it was ready")
		case <-tick.C:
		}
	}
	return nil
}

// address is where the API server listens, as prepare reserved it.
func (f folder) address() (host, port string, err error) {
	text, err := os.ReadFile(f.path(addressFile))
	if err != nil {
		return "", "", fmt.Errorf("%w (kube prepare makes it)", err)
	}
	host, port, found := strings.Cut(string(text), ":")
	if !found {
		return "", "", fmt.Errorf("%s: not an address: %q", f.path(addressFile), text)
	}
	return host, port, nil
}
