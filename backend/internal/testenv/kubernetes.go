package testenv

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"
)

// Kubernetes is the control plane of a cluster that has no nodes: an etcd, and a
// kube-apiserver with RBAC that issues and reviews tokens. No controller runs, so
// nothing acts on Deployments, and nothing puts tokens into Secrets.
type Kubernetes struct {
	// Config is a kubeconfig for the cluster's administrator.
	Config string
	// Kubectl is the program, of the server's version.
	Kubectl string
	// LogPath is the API server's log.
	LogPath string

	scratch      *scratch
	etcd, server *Program
}

// StartKubernetes starts a new, empty cluster and returns when it is ready. Where its
// programs have to be built first that takes some ten minutes. ctx bounds the start
// only; the cluster runs until Stop or until this process dies.
func StartKubernetes(ctx context.Context) (*Kubernetes, error) {
	k := &Kubernetes{}
	if err := k.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start Kubernetes: %w", err), k.Stop())
	}
	return k, nil
}

// Stop ends the cluster and removes everything it had. A second call does nothing. It
// is safe on a nil cluster.
func (k *Kubernetes) Stop() error {
	if k == nil {
		return nil
	}
	return errors.Join(k.server.Stop(), k.etcd.Stop(), k.scratch.remove())
}

func (k *Kubernetes) start(ctx context.Context) error {
	server, err := Tool(ctx, "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver")
	if err != nil {
		return err
	}
	if k.Kubectl, err = Tool(ctx, "kubernetes", "k8s.io/kubernetes/cmd/kubectl"); err != nil {
		return err
	}
	if k.scratch, err = newScratch(ctx, "kubernetes"); err != nil {
		return err
	}
	storage, err := k.startEtcd(ctx)
	if err != nil {
		return err
	}
	return k.startServer(ctx, server, storage)
}

// startEtcd returns the URL at which it listens.
func (k *Kubernetes) startEtcd(ctx context.Context) (string, error) {
	binary, err := script(ctx, "get-etcd.sh")
	if err != nil {
		return "", err
	}
	clients, err := localURL(ctx)
	if err != nil {
		return "", err
	}
	peers, err := localURL(ctx)
	if err != nil {
		return "", err
	}
	k.etcd, err = StartProgram(ctx, nil, binary, "--data-dir=data",
		"--listen-client-urls="+clients, "--advertise-client-urls="+clients,
		"--listen-peer-urls="+peers, "--initial-advertise-peer-urls="+peers, "--initial-cluster=default="+peers)
	return clients, err
}

func localURL(ctx context.Context) (string, error) {
	port, err := freePort(ctx)
	return fmt.Sprintf("http://127.0.0.1:%d", port), err
}

// startServer starts the API server. One key is both that of its certificate and the
// one that signs the tokens of service accounts.
func (k *Kubernetes) startServer(ctx context.Context, binary, storage string) error {
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	pair, err := newCertificates()
	if err != nil {
		return err
	}
	address := fmt.Sprintf("https://127.0.0.1:%d", port)
	if err := k.write(address, pair); err != nil {
		return err
	}
	k.server, err = StartProgram(ctx, nil, binary, "--etcd-servers="+storage,
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port),
		"--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.0.0.0/24",
		"--tls-cert-file="+k.scratch.path("server.crt"), "--tls-private-key-file="+k.scratch.path("server.key"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file="+k.scratch.path("server.crt"), "--service-account-signing-key-file="+k.scratch.path("server.key"),
		"--token-auth-file="+k.scratch.path("tokens"), "--authorization-mode=RBAC")
	if err != nil {
		return err
	}
	k.LogPath = k.server.LogPath
	return k.ready(ctx, address, pair.ca)
}

// administrator is the kubeconfig of who may do everything.
const administrator = `apiVersion: v1
kind: Config
clusters: [{name: smvm, cluster: {server: "{address}", certificate-authority: "{ca}"}}]
users: [{name: administrator, user: {tokenFile: "{token}"}}]
contexts: [{name: smvm, context: {cluster: smvm, user: administrator}}]
current-context: smvm
`

// write writes the files of the server and of its administrator.
func (k *Kubernetes) write(address string, pair *certificates) error {
	token := rand.Text()
	k.Config = k.scratch.path("kubeconfig")
	config := strings.NewReplacer("{address}", address, "{ca}", k.scratch.path("ca.crt"), "{token}", k.scratch.path("token")).Replace(administrator)
	for name, content := range map[string]string{
		"ca.crt": pair.ca, "server.crt": pair.cert, "server.key": pair.key,
		"token": token, "tokens": token + `,administrator,administrator,"system:masters"`, "kubeconfig": config,
	} {
		if err := os.WriteFile(k.scratch.path(name), []byte(content), 0o600); err != nil {
			return fmt.Errorf("write server's files: %w", err)
		}
	}
	return nil
}

// readyTimeout bounds the start of an API server, which fills its storage first.
const readyTimeout = 3 * time.Minute

// ready waits until the API server has done all that it does at its start.
func (k *Kubernetes) ready(ctx context.Context, address, ca string) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ca))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}, Timeout: probeTimeout}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	ctx, release := k.server.process.whileRunning(ctx, k.LogPath)
	defer release()
	return Eventually(ctx, "the API server", func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/readyz", nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close() //nolint:errcheck // it was read
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("it answers %s", response.Status)
		}
		return nil
	})
}
