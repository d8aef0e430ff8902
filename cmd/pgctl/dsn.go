package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/xpd-platform/xpd/pgcluster"
)

// role is the one whose password follows from the secret; see pgcluster/agent.
const role = "xpd"

type dsnCmd struct {
	ReadOnly    bool   `help:"Prefer a standby: for reads that may be a moment old."`
	User        string `default:"xpd" help:"Role that logs in."`
	Database    string `default:"xpd" help:"Database to connect to."`
	Format      string `enum:"uri,jdbc" default:"uri" help:"uri: for libpq (psql) and drivers that follow it. jdbc: for Java."`
	SecretFile  string `type:"path" help:"The cluster's secret: puts the password of role xpd into the string, for whoever may see it."`
	SSLRootCert string `name:"ssl-root-cert" type:"path" help:"The cluster's ca.crt, where its PostgreSQLs speak TLS: the string then asks for a server that it vouches for."`
}

// Run prints a URL that names every node; libpq and drivers that follow it try them in
// turn and keep the one whose session is of the wanted kind.
func (c *dsnCmd) Run(ctx context.Context, env *env) error {
	password, err := c.password()
	if err != nil {
		return err
	}
	ctx, cancel := env.within(ctx, askTime)
	defer cancel()
	cluster, err := env.ask.Cluster(ctx)
	if err != nil {
		return env.unanswered(err)
	}
	var hosts []string
	for _, m := range cluster.Members {
		if !m.Witness {
			hosts = append(hosts, m.Postgres)
		}
	}
	if len(hosts) == 0 {
		return fmt.Errorf("no node of the cluster runs PostgreSQL")
	}
	dsn := c.libpq(hosts, password)
	if c.Format == "jdbc" {
		dsn = c.jdbc(hosts, password)
	}
	return env.print(map[string]string{"dsn": dsn}, dsn+"\n")
}

// libpq is not built by net/url, to which a list of hosts is not a URL.
func (c *dsnCmd) libpq(hosts []string, password string) string {
	user := url.UserPassword(c.User, password).String()
	if password == "" {
		user = url.User(c.User).String()
	}
	attrs := "read-write"
	if c.ReadOnly {
		attrs = "prefer-standby"
	}
	return fmt.Sprintf("postgresql://%s@%s/%s?target_session_attrs=%s&connect_timeout=3%s",
		user, strings.Join(hosts, ","), url.PathEscape(c.Database), attrs, c.tls())
}

// jdbc is what the same is called by PostgreSQL's JDBC driver.
func (c *dsnCmd) jdbc(hosts []string, password string) string {
	target := "primary"
	if c.ReadOnly {
		target = "preferSecondary"
	}
	user := "user=" + url.QueryEscape(c.User)
	if password != "" {
		user += "&password=" + url.QueryEscape(password)
	}
	return fmt.Sprintf("jdbc:postgresql://%s/%s?%s&targetServerType=%s&connectTimeout=3%s",
		strings.Join(hosts, ","), url.PathEscape(c.Database), user, target, c.tls())
}

func (c *dsnCmd) tls() string {
	if c.SSLRootCert == "" {
		return ""
	}
	return "&sslmode=verify-full&sslrootcert=" + url.PathEscape(c.SSLRootCert)
}

// password returns that of role xpd, or "".
func (c *dsnCmd) password() (string, error) {
	if c.SecretFile == "" {
		return "", nil
	}
	if c.User != role {
		return "", fmt.Errorf("--secret-file knows the password of role %s only, not of %s: leave it out, and give that password as PGPASSWORD", role, c.User)
	}
	text, err := os.ReadFile(c.SecretFile)
	if err != nil {
		return "", fmt.Errorf("--secret-file: %w", err)
	}
	secret, err := pgcluster.ParseSecret(text)
	if err != nil {
		return "", fmt.Errorf("--secret-file %s: %w", c.SecretFile, err)
	}
	return secret.Password(pgcluster.PasswordService), nil
}
