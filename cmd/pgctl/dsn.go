package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/xpd-platform/xpd/pgcluster"
)

// The role and the database that every cluster has; see pgcluster/agent.
const (
	role     = "xpd"
	database = "xpd"
)

type dsnCmd struct {
	ReadOnly   bool   `help:"Prefer a standby: for reads that may be a moment old."`
	SecretFile string `type:"path" help:"The cluster's secret: puts the password into the string, for whoever may see it."`
}

// Run prints a URI that names every node; libpq and drivers that follow it try
// them in turn and keep the one whose session is of the wanted kind.
func (c *dsnCmd) Run(ctx context.Context, env *env) error {
	ctx, cancel := env.within(ctx, askTime)
	defer cancel()
	cluster, err := env.ask.Cluster(ctx)
	if err != nil {
		return env.unanswered(err)
	}
	var hosts []string
	for _, m := range cluster.Members {
		host, port, err := net.SplitHostPort(m.Postgres)
		if err != nil {
			return fmt.Errorf("address of %s: %w", m.ID, err)
		}
		hosts = append(hosts, net.JoinHostPort(host, port))
	}
	attrs := "read-write"
	if c.ReadOnly {
		attrs = "prefer-standby"
	}
	user, err := c.userinfo()
	if err != nil {
		return err
	}
	// Not built by net/url, to which a list of hosts is not a URL.
	dsn := fmt.Sprintf("postgresql://%s@%s/%s?target_session_attrs=%s&connect_timeout=3",
		user, strings.Join(hosts, ","), database, attrs)
	if env.json {
		return printJSON(env.out, map[string]string{"dsn": dsn})
	}
	_, err = fmt.Fprintln(env.out, dsn)
	return err
}

// userinfo returns role, or role:password.
func (c *dsnCmd) userinfo() (string, error) {
	if c.SecretFile == "" {
		return role, nil
	}
	text, err := os.ReadFile(c.SecretFile)
	if err != nil {
		return "", fmt.Errorf("--secret-file: %w", err)
	}
	secret, err := pgcluster.ParseSecret(text)
	if err != nil {
		return "", fmt.Errorf("--secret-file %s: %w", c.SecretFile, err)
	}
	return role + ":" + secret.Password(pgcluster.PasswordService), nil
}
