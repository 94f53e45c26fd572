package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"strings"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// Where the API server is reached from pods of the lab: the first addresses of the ranges of
// services, and the lab's bridge.
var (
	servingNames = []string{
		"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc.cluster.local",
	}
	servingAddresses = []string{"127.0.0.1", "10.96.0.1", "fd00:10:96::1", advertised}
)

// Who has a kubeconfig: file, user, groups.
var accounts = []struct {
	file   string
	name   string
	groups []string
}{
	{administratorFile, "admin", []string{"system:masters"}},
	{controllersFile, "system:kube-controller-manager", nil},
	{schedulerFile, "system:kube-scheduler", nil},
}

// Who asked for what is kept in the audit log, of every service account that is not of Kubernetes' own controllers.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, userGroups: ["system:serviceaccounts:kube-system"]}
- {level: Metadata, userGroups: ["system:serviceaccounts"]}
- {level: None}
`

// The way to kubelets and pods, which are in a lab: it has a socket of its own, and this is where the lab is told to make
// it known.
const egress = `apiVersion: apiserver.k8s.io/v1beta1
kind: EgressSelectorConfiguration
egressSelections:
- name: cluster
  connection: {proxyProtocol: HTTPConnect, transport: {uds: {udsName: %q}}}
`

const (
	lifetime = 365 * 24 * time.Hour
	private  = 0o600
)

// prepare makes keys, certificates, kubeconfigs, the audit policy and the way into a lab, and reserves the port.
func prepare(home folder) error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	if err := os.WriteFile(home.path(addressFile), []byte(address), private); err != nil {
		return err
	}
	if err := os.WriteFile(home.path(auditPolicyFile), []byte(auditPolicy), private); err != nil {
		return err
	}
	way := fmt.Sprintf(egress, home.path(egressSocket))
	if err := os.WriteFile(home.path(egressFile), []byte(way), private); err != nil {
		return err
	}
	authority, err := newAuthority()
	if err != nil {
		return err
	}
	if err := os.WriteFile(home.path(authorityFile), authority.pem, private); err != nil {
		return err
	}
	if err := home.writeServing(authority); err != nil {
		return err
	}
	if err := home.writeKubeletClient(authority); err != nil {
		return err
	}
	for _, account := range accounts {
		subject := pkix.Name{CommonName: account.name, Organization: account.groups}
		leaf, key, err := authority.issue(&x509.Certificate{
			Subject:     subject,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		if err != nil {
			return err
		}
		config := kubeconfig("https://"+address, account.name, authority.pem, leaf, key)
		if err := clientcmd.WriteToFile(config, home.path(account.file)); err != nil {
			return err
		}
	}
	_, tokenKey, err := newKey()
	if err != nil {
		return err
	}
	return os.WriteFile(home.path(tokenKeyFile), tokenKey, private)
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

func (f folder) writeServing(authority *authority) error {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    servingNames,
	}
	for _, address := range servingAddresses {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(address))
	}
	leaf, key, err := authority.issue(template)
	if err != nil {
		return err
	}
	if err := os.WriteFile(f.path(servingFile), leaf, private); err != nil {
		return err
	}
	return os.WriteFile(f.path(servingKeyFile), key, private)
}

// writeKubeletClient makes what the API server shows to kubelets.
func (f folder) writeKubeletClient(authority *authority) error {
	leaf, key, err := authority.issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver-kubelet-client", Organization: []string{"system:masters"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(f.path(kubeletClientFile), leaf, private); err != nil {
		return err
	}
	return os.WriteFile(f.path(kubeletKeyFile), key, private)
}

// An authority signs the certificates of one cluster. Its key is never written.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
	pem         []byte
}

func newAuthority() (*authority, error) {
	key, _, err := newKey()
	if err != nil {
		return nil, err
	}
	made := &authority{key: key}
	made.certificate = &x509.Certificate{
		Subject:               pkix.Name{CommonName: "kube"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	made.pem, err = made.sign(made.certificate, key.Public())
	return made, err
}

// issue completes template and signs it for a new key. Both come back as PEM.
func (a *authority) issue(template *x509.Certificate) (leaf, key []byte, err error) {
	signer, key, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	leaf, err = a.sign(template, signer.Public())
	return leaf, key, err
}

func (a *authority) sign(template *x509.Certificate, public crypto.PublicKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Minute)
	template.NotAfter = template.NotBefore.Add(lifetime)
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, public, a.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func newKey() (crypto.Signer, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

func kubeconfig(server, user string, authority, leaf, key []byte) api.Config {
	const name = "kube"
	user = strings.TrimPrefix(user, "system:")
	config := api.NewConfig()
	config.Clusters[name] = &api.Cluster{Server: server, CertificateAuthorityData: authority}
	config.AuthInfos[user] = &api.AuthInfo{ClientCertificateData: leaf, ClientKeyData: key}
	config.Contexts[name] = &api.Context{Cluster: name, AuthInfo: user}
	config.CurrentContext = name
	return *config
}
