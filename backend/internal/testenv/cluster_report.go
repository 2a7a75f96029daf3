package testenv

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// reportTimeout is what each node gets to answer, reportedLines how many lines of its
// log a report has.
const (
	reportTimeout = 5 * time.Second
	reportedLines = 12
)

// elections are the lines of a node's log about raft and about who is active, but
// for those that come all the time.
var elections = regexp.MustCompile(`(?m)^.*(?:` + strings.Join([]string{
	`\[(?:INFO|WARN|ERROR)\] +storage\.raft`, `\[(?:WARN|ERROR)\] +core`, `core: (?:acquired lock|post-unseal setup complete|vault is)`,
}, "|") + `).*$`)

// report adds to an error what every node says of itself.
func (c *Cluster) report(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	said := make([]string, len(c.Nodes))
	for i, v := range c.Nodes {
		said[i] = v.says(context.WithoutCancel(ctx))
	}
	return fmt.Errorf("%w\n%s", err, strings.Join(said, "\n"))
}

// says returns whether a node is sealed, whom it follows, who raft's voters are by
// it, and the end of its log about all that.
func (v *Vault) says(ctx context.Context) string {
	if !v.answering() {
		return v.ID + ": it does not run, or is paused"
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	state, err := v.state(ctx)
	if err != nil {
		state = strings.Join(append([]string{err.Error()}, v.waits(context.WithoutCancel(ctx))...), "\n\t")
	}
	said := v.ID + ": " + state
	lines := elections.FindAllString(tail(v.LogPath, 1<<20), -1)
	return strings.Join(append([]string{said}, lines[max(0, len(lines)-reportedLines):]...), "\n\t")
}

// state fails when the node does not say whether it is sealed and whom it follows.
func (v *Vault) state(ctx context.Context) (string, error) {
	health, err := v.Client.Sys().HealthWithContext(ctx)
	if err != nil {
		return "", err
	}
	if health.Sealed {
		return "sealed", nil
	}
	leader, err := v.Client.Sys().LeaderWithContext(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("unsealed, follows %q, has index %d of %d, %s",
		leader.LeaderAddress, leader.RaftAppliedIndex, leader.RaftCommittedIndex, v.quorum(ctx)), nil
}

// quorum is who raft's voters are by the node, or why it does not say so.
func (v *Vault) quorum(ctx context.Context) string {
	voters, err := v.voters(ctx)
	if err != nil {
		return err.Error()
	}
	slices.Sort(voters)
	return fmt.Sprintf("voters %v", voters)
}

// frame is a function in the stack of a goroutine, as Go prints it.
var frame = regexp.MustCompile(`(?m)^\S*?([^/\s]+)\([^()]*\)$`)

// waits returns a line for each goroutine of Vault's core: in what it is, the inmost
// function first. Vault writes their stacks into its log on SIGUSR2. What a node that
// does not answer waits for, nothing else tells.
func (v *Vault) waits(ctx context.Context) []string {
	const begin = "goroutine 1 ["
	known := len(tail(v.LogPath, 1<<30))
	if err := signalAll(v.serverPIDs(), syscall.SIGUSR2); err != nil {
		return []string{err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	var dump string
	if err := Eventually(ctx, "the stacks", func(context.Context) error {
		dump = tail(v.LogPath, 1<<30)[known:]
		if !strings.Contains(dump, begin) {
			return errors.New("the log does not have them")
		}
		return nil
	}); err != nil {
		return []string{err.Error()}
	}
	var lines []string
	for _, stack := range strings.Split(dump, "\n\n") {
		_, stack, found := strings.Cut(stack, "goroutine ")
		if !found || !strings.Contains(stack, "vault.(*Core)") {
			continue
		}
		state, _, _ := strings.Cut(stack, ":\n")
		var in []string
		for _, function := range frame.FindAllStringSubmatch(stack, -1) {
			in = append(in, function[1])
		}
		lines = append(lines, "goroutine "+state+": "+strings.Join(in, " < "))
	}
	return lines
}
