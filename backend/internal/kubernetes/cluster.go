package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// cluster is one with an operator, the namespace orders, and a Deployment in it.
type cluster struct {
	*testenv.Kubernetes
	world    *world
	operator operator
	program  *testenv.Program
	// secrets are watched by name, deployment is the application's.
	secrets    map[string]*watch
	deployment *watch
	unwatch    []func()
}

// manifest is the file with what a reader applies.
func (o operator) manifest() string { return "bootstrap/apps/kubernetes/" + o.name + ".yaml" }

// newCluster starts everything that a reader of the documents has before. What it
// returns needs a stop also when there is an error.
func (w *world) newCluster(ctx context.Context, o operator) (c *cluster, err error) {
	c = &cluster{world: w, operator: o, secrets: map[string]*watch{}}
	if c.Kubernetes, err = testenv.StartKubernetes(ctx); err != nil {
		return c, err
	}
	if err := c.define(ctx); err != nil {
		return c, err
	}
	if err := c.kubectl(ctx, "create", "namespace", "orders"); err != nil {
		return c, err
	}
	if err := c.kubectl(ctx, "create", "deployment", "smvm-api", "--namespace=orders", "--image=registry.example.com/smvm-api"); err != nil {
		return c, err
	}
	for _, s := range o.secrets {
		if c.secrets[s.name], err = c.watch(ctx, "secrets", s.name); err != nil {
			return c, err
		}
	}
	if c.deployment, err = c.watch(ctx, "deployments", "smvm-api"); err != nil {
		return c, err
	}
	return c, c.operate(ctx)
}

// stop ends everything, so that the next one finds Vault without a login for it.
func (c *cluster) stop(ctx context.Context) error {
	err := c.world.vault.Client.Sys().DisableAuthWithContext(ctx, "kubernetes")
	err = errors.Join(err, c.program.Stop())
	for _, end := range c.unwatch {
		end()
	}
	return errors.Join(err, c.Stop())
}

// define puts the CRDs of the operators into the cluster.
func (c *cluster) define(ctx context.Context) error {
	dirs, err := testenv.CRDs(ctx)
	if err != nil {
		return err
	}
	arguments := []string{"apply", "--server-side"}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*_*.yaml"))
		if err != nil || len(files) == 0 {
			return fmt.Errorf("find CRDs in %s: %w", dir, err)
		}
		for _, file := range files {
			arguments = append(arguments, "--filename="+file)
		}
	}
	if err := c.kubectl(ctx, arguments...); err != nil {
		return err
	}
	return c.kubectl(ctx, "wait", "--for=condition=Established", "--all", "crds", "--timeout=3m")
}

// operate starts the operator.
func (c *cluster) operate(ctx context.Context) error {
	binary, err := testenv.Tool(ctx, c.operator.name, c.operator.program)
	if err != nil {
		return err
	}
	c.program, err = testenv.StartProgram(ctx, append([]string{"KUBECONFIG=" + c.Config}, c.operator.env...), binary, c.operator.arguments...)
	return err
}

// env is that of a reader at a terminal.
func (c *cluster) env() []string {
	path := strings.Join([]string{filepath.Dir(c.Kubectl), filepath.Dir(c.world.vault.Binary), os.Getenv("PATH")}, string(os.PathListSeparator))
	return []string{
		"PATH=" + path, "HOME=" + c.world.files, "KUBECONFIG=" + c.Config,
		"VAULT_ADDR=" + c.world.vault.Address, "VAULT_TOKEN=" + c.world.vault.RootToken,
	}
}

func (c *cluster) kubectl(ctx context.Context, arguments ...string) error {
	return c.run(ctx, c.Kubectl, arguments...)
}

// run runs a command as a reader does.
func (c *cluster) run(ctx context.Context, name string, arguments ...string) error {
	cmd := exec.CommandContext(ctx, name, arguments...)
	cmd.Dir, cmd.Env = c.world.files, c.env()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run %s %s: %w: %s", filepath.Base(name), arguments[0], err, out)
	}
	return nil
}

var blocks = regexp.MustCompile("(?ms)^ *```sh\n(.*?)^ *```")

// apply runs the commands of the section that are for every operator, the first block,
// and those for this one.
func (c *cluster) apply(ctx context.Context) error {
	found := blocks.FindAllStringSubmatch(c.world.section, -1)
	for i, block := range found {
		if i > 0 && !strings.Contains(block[1], c.operator.manifest()) {
			continue
		}
		if err := c.run(ctx, "bash", "-euo", "pipefail", "-c", block[1]); err != nil {
			return fmt.Errorf("block %d of the document: %w", i+1, err)
		}
	}
	if len(found) != 1+len(operators) {
		return fmt.Errorf("the document has %d blocks, want one for all operators and one for each", len(found))
	}
	return nil
}
