package simulation_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation"
	"github.com/xpd-platform/xpd/simulation/faulttest"
	"github.com/xpd-platform/xpd/simulation/localcluster"
)

// TestSecured uses and breaks a cluster that speaks TLS and asks for tokens.
//
//nolint:paralleltest // one cluster at a time, which the subtests share
func TestSecured(t *testing.T) {
	b := own(t, &bed{tune: func(o *localcluster.Options) { o.Secure = true }})
	t.Run("roles", func(t *testing.T) { testRoles(t, b) })
	t.Run("pgctl", func(t *testing.T) { testRefusals(t, b) })
	t.Run("under load", func(t *testing.T) {
		slow(t)
		testUnderLoad(t, b)
	})
}

// testUnderLoad disturbs the cluster, and renews certificates and tokens, while shoppers
// use it: none of their requests may fail.
func testUnderLoad(t *testing.T, b *bed) {
	t.Helper()
	report := b.underLoad(t, faulttest.Rules{}, func(ctx context.Context, s *simulation.Session) error {
		steps := []struct {
			name string
			do   func(context.Context, *simulation.Session) error
		}{
			{"certificates renewed", func(ctx context.Context, s *simulation.Session) error { return s.Cluster.RenewCertificates(ctx) }},
			{"tokens renewed", renewTokens},
			{"F1 kill -9 postmaster", killPrimary},
			{"pgctl switchover", switchOverByPgctl},
		}
		for _, step := range steps {
			began := time.Now()
			if err := step.do(ctx, s); err != nil {
				return fmt.Errorf("%s: %w", step.name, err)
			}
			if err := s.AwaitEnrolment(ctx, time.Now()); err != nil {
				return fmt.Errorf("%s: %w", step.name, err)
			}
			s.Say("%s: done after %.1f s", step.name, time.Since(began).Seconds())
		}
		return nil
	})
	if report.Requests.Failed > 0 {
		t.Errorf("%d requests failed", report.Requests.Failed)
	}
}

// renewTokens replaces all tokens, and sees that the old ones are worth nothing then.
func renewTokens(ctx context.Context, s *simulation.Session) error {
	old, err := s.Cluster.Client(access.RoleDBA)
	if err != nil {
		return err
	}
	retire, err := s.Cluster.RenewTokens(ctx)
	if err != nil {
		return err
	}
	if _, err := old.Cluster(ctx); err != nil {
		return fmt.Errorf("before the old tokens are retired: %w", err)
	}
	if err := retire(); err != nil {
		return err
	}
	return soonish(ctx, "the old token to be refused", func() bool {
		_, err := old.Cluster(ctx)
		p, refused := errors.AsType[*client.Problem](err)
		return refused && p.Status == 401
	})
}

func killPrimary(ctx context.Context, s *simulation.Session) error {
	return s.Disturb(ctx, "F1 kill -9 postmaster, over TLS", func(ctx context.Context) error {
		primary, err := s.Cluster.Primary(ctx)
		if err != nil {
			return err
		}
		return s.Failover(ctx, func() error { return s.Cluster.KillPostgres(primary) })
	})
}

// switchOverByPgctl moves the role of primary as a DBA does.
func switchOverByPgctl(ctx context.Context, s *simulation.Session) error {
	before, err := s.Cluster.Primary(ctx)
	if err != nil {
		return err
	}
	if _, err := pgctl(ctx, s.Cluster.Env(), "plan", "switchover"); err != nil {
		return err
	}
	if _, err := pgctl(ctx, s.Cluster.Env(), "switchover", "-y"); err != nil {
		return err
	}
	after, err := s.Cluster.Primary(ctx)
	if err == nil && after == before {
		err = fmt.Errorf("%s is still primary", after)
	}
	if err != nil {
		return err
	}
	return s.Cluster.WaitReady(ctx)
}

// pgctl runs the program with an environment, and nothing else of PGCTL_*. Its error
// has what it said.
func pgctl(ctx context.Context, env []string, args ...string) (string, error) {
	if _, err := buildXPD(ctx); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(program.dir, "pgctl"), args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "USER=dba"}, env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("pgctl %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// testRoles uses the typed client with every kind of token for every kind of call.
func testRoles(t *testing.T, b *bed) {
	t.Helper()
	cluster := b.use(t)
	ctx, cancel := context.WithTimeout(t.Context(), faultPatience)
	defer cancel()
	setUp, err := cluster.Client(access.RoleExperimenter)
	if err != nil {
		t.Fatal(err)
	}
	if err := simulation.Install(ctx, setUp, simulation.Samples()[1:]); err != nil {
		t.Fatal(err)
	}
	unit, sample := client.Unit{Type: "user", ID: "alice"}, simulation.Samples()[1].Key
	calls := []struct {
		name  string
		do    func(*client.Client) error
		roles []access.Role
	}{
		{"treatments", func(c *client.Client) error { _, err := c.Treatments(ctx, unit); return err }, []access.Role{access.RoleAssign}},
		{"exposures", func(c *client.Client) error {
			_, err := c.Expose(ctx, unit, time.Time{}, sample)
			return err
		}, []access.Role{access.RoleAssign, access.RoleIngest}},
		{"events", func(c *client.Client) error {
			_, err := c.Record(ctx, []client.Event{{ID: uuid.NewString(), Unit: unit, Type: "page_view", OccurredAt: time.Now()}})
			return err
		}, []access.Role{access.RoleIngest}},
		{"experiments", func(c *client.Client) error { _, err := c.Experiments(ctx, ""); return err }, []access.Role{access.RoleExperimenter}},
		{"report", func(c *client.Client) error { _, err := c.Report(ctx, sample); return err }, []access.Role{access.RoleExperimenter}},
		{"cluster", func(c *client.Client) error { _, err := c.Cluster(ctx); return err }, []access.Role{access.RoleDBA}},
		{"settings", func(c *client.Client) error { _, err := c.ClusterSettings(ctx); return err }, []access.Role{access.RoleDBA}},
	}
	for _, role := range access.TokenRoles() {
		c, err := cluster.Client(role)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range calls {
			may := false
			for _, r := range call.roles {
				may = may || r == role
			}
			err := call.do(c)
			p, refused := errors.AsType[*client.Problem](err)
			switch {
			case may && err != nil:
				t.Errorf("%s with the role %s: %v", call.name, role, err)
			case !may && (!refused || p.Status != 403 || !strings.Contains(err.Error(), string(call.roles[0]))):
				t.Errorf("%s with the role %s: %v, want a refusal that names %s", call.name, role, err, call.roles[0])
			}
		}
	}
}

// testRefusals looks at what a DBA gets to read who has not everything.
func testRefusals(t *testing.T, b *bed) {
	t.Helper()
	cluster := b.use(t)
	ctx, cancel := context.WithTimeout(t.Context(), faultPatience)
	defer cancel()
	server := "PGCTL_SERVER=" + strings.Join(cluster.URLs(), ",")
	ca := "PGCTL_CA=" + cluster.CAFile()
	hosts := "PGCTL_SERVER=" + hostsOf(cluster.Members())
	// It asks every node by itself, at the address that the cluster has for it.
	if said, _ := pgctl(ctx, cluster.Env(), "doctor", "--json"); !strings.Contains(said, `"unanswered": []`) {
		t.Errorf("pgctl doctor does not reach all nodes:\n%s", said)
	}
	tests := []struct {
		name string
		env  []string
		code int
		says string
	}{
		{"everything", cluster.Env(), 0, "ok: writes are open"},
		{"hosts without a scheme", []string{hosts, ca, "PGCTL_TOKEN=" + cluster.Token(access.RoleDBA)}, 0, "ok: writes are open"},
		{"no CA", []string{server, "PGCTL_TOKEN=" + cluster.Token(access.RoleDBA)}, 3, "Give the cluster's ca.crt with --ca or PGCTL_CA"},
		{"no TLS", []string{hosts}, 3, "does not speak http there, but https"},
		{"no token", []string{server, ca}, 3, "Give your token with --token-file or PGCTL_TOKEN"},
		{"a token that is not known", []string{server, ca, "PGCTL_TOKEN=xpd_nobodys"}, 3, "is unknown there, was revoked or has expired"},
		{"another role", []string{server, ca, "PGCTL_TOKEN_FILE=" + cluster.TokenFile(access.RoleAssign)}, 3, "Give a token of such a role"},
	}
	for _, tt := range tests { // one after the other: wrong tokens count by address
		t.Run(tt.name, func(t *testing.T) {
			began := time.Now()
			said, err := pgctl(ctx, tt.env, "status")
			code := 0
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				code = exit.ExitCode()
			} else if err != nil {
				t.Fatal(err)
			}
			// Lines are wrapped.
			if words := strings.Join(strings.Fields(said), " "); code != tt.code || !strings.Contains(words, tt.says) {
				t.Errorf("exit code %d, want %d and %q; it said\n%s", code, tt.code, tt.says, said)
			}
			if took := time.Since(began); took > 2*hung {
				t.Errorf("it took %s to say so", took)
			}
			if strings.Contains(said, "xpd_") {
				t.Errorf("it shows a token:\n%s", said)
			}
		})
	}
}

func hostsOf(members []pgcluster.Member) string {
	var hosts []string
	for _, m := range members {
		hosts = append(hosts, m.HTTPAddr())
	}
	return strings.Join(hosts, ",")
}
