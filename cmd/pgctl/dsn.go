package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/pgcluster"
)

// role is the one whose password follows from the secret; see pgcluster/agent.
const role = "xpd"

type dsnCmd struct {
	ReadOnly    bool   `help:"Prefer a standby: for reads that may be a moment old."`
	User        string `default:"xpd" help:"Role that logs in."`
	Database    string `default:"xpd" help:"Database to connect to."`
	Format      string `enum:"uri,jdbc,pgpass" default:"uri" help:"uri: for libpq (psql) and drivers that follow it. jdbc: for Java. pgpass: lines for ~/.pgpass with the password, which neither of the others shows."`
	SecretFile  string `type:"path" help:"The cluster's secret, from which --format pgpass takes the password of role xpd."`
	SSLRootCert string `name:"ssl-root-cert" type:"path" help:"The cluster's ca.crt: the string then asks for a server that it vouches for, and not only for one that speaks TLS."`
}

// Run prints a URL that names every node; libpq and drivers that follow it try them in
// turn and keep the one whose session is of the wanted kind. It has no password: who puts
// it on a command line shows it to everybody on that host.
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
	if c.Format == "pgpass" {
		lines, err := c.pgpass(hosts, password)
		if err != nil {
			return err
		}
		return env.print(map[string]string{"pgpass": lines}, lines)
	}
	if cluster.PostgresTLS && c.User == role {
		var note strings.Builder
		how := "set PGSSLCERT and PGSSLKEY to node.crt and node.key"
		if c.Format == "jdbc" { // whose driver reads neither, and most versions of it no PEM key
			how = "add &sslcert=node.crt&sslkey=node.pk8, which is node.key in PKCS#8 DER (openssl pkcs8 -topk8 -nocrypt -outform DER)"
		}
		sentence(&note, "", "role xpd shows a node's certificate beside its password: %s; other roles (--user) need none", how)
		fmt.Fprint(env.err, note.String())
	}
	dsn := c.libpq(hosts) + c.tls(cluster)
	if c.Format == "jdbc" {
		dsn = c.jdbc(hosts) + c.tls(cluster)
	}
	return env.print(map[string]string{"dsn": dsn}, dsn+"\n")
}

// libpq is not built by net/url, to which a list of hosts is not a URL.
func (c *dsnCmd) libpq(hosts []string) string {
	attrs := "read-write"
	if c.ReadOnly {
		attrs = "prefer-standby"
	}
	return fmt.Sprintf("postgresql://%s@%s/%s?target_session_attrs=%s&connect_timeout=3",
		url.User(c.User), strings.Join(hosts, ","), url.PathEscape(c.Database), attrs)
}

// jdbc is what the same is called by PostgreSQL's JDBC driver.
func (c *dsnCmd) jdbc(hosts []string) string {
	target := "primary"
	if c.ReadOnly {
		target = "preferSecondary"
	}
	return fmt.Sprintf("jdbc:postgresql://%s/%s?user=%s&targetServerType=%s&connectTimeout=3",
		strings.Join(hosts, ","), url.PathEscape(c.Database), url.QueryEscape(c.User), target)
}

// tls asks for what the servers want: without a word of it some drivers speak in plain,
// and others try both.
func (c *dsnCmd) tls(cluster client.Cluster) string {
	switch {
	case c.SSLRootCert != "":
		return "&sslmode=verify-full&sslrootcert=" + url.PathEscape(c.SSLRootCert)
	case cluster.PostgresTLS:
		return "&sslmode=require"
	default:
		return ""
	}
}

// pgpass is read by libpq, and by drivers that follow it.
func (c *dsnCmd) pgpass(hosts []string, password string) (string, error) {
	escape := strings.NewReplacer(`\`, `\\`, ":", `\:`)
	var b strings.Builder
	for _, addr := range hosts {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return "", fmt.Errorf("address of a PostgreSQL: %w", err)
		}
		fmt.Fprintf(&b, "%s:%s:%s:%s:%s\n", escape.Replace(host), port, escape.Replace(c.Database), role, password)
	}
	return b.String(), nil
}

// password returns that of role xpd, or "".
func (c *dsnCmd) password() (string, error) {
	switch {
	case c.Format != "pgpass" && c.SecretFile == "":
		return "", nil
	case c.Format != "pgpass":
		return "", fmt.Errorf("--secret-file goes with --format pgpass: a password in the string itself would be seen by everybody on the host who runs ps\nTo keep it: pgctl dsn --format pgpass --secret-file %s >> ~/.pgpass; chmod 600 ~/.pgpass", c.SecretFile)
	case c.SecretFile == "":
		return "", fmt.Errorf("--format pgpass needs --secret-file, the cluster's secret")
	case c.User != role:
		return "", fmt.Errorf("--secret-file knows the password of role %s only, not of %s: put that into ~/.pgpass yourself", role, c.User)
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
