package testenv

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
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
	said := v.ID + ": " + v.state(ctx)
	lines := elections.FindAllString(tail(v.LogPath, 1<<20), -1)
	return strings.Join(append([]string{said}, lines[max(0, len(lines)-reportedLines):]...), "\n\t")
}

func (v *Vault) state(ctx context.Context) string {
	health, err := v.Client.Sys().HealthWithContext(ctx)
	if err != nil {
		return err.Error()
	}
	if health.Sealed {
		return "sealed"
	}
	leader, err := v.Client.Sys().LeaderWithContext(ctx)
	if err != nil {
		return err.Error()
	}
	said := fmt.Sprintf("unsealed, follows %q, has index %d of %d", leader.LeaderAddress, leader.RaftAppliedIndex, leader.RaftCommittedIndex)
	voters, err := v.voters(ctx)
	if err != nil {
		return said + ", " + err.Error()
	}
	slices.Sort(voters)
	return fmt.Sprintf("%s, voters %v", said, voters)
}
