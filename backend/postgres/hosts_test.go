package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/pgtest"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// among is a server with these hosts, of which nobody knows yet which is the primary.
func among(b *pgtest.Bench, hosts ...*testenv.Postgres) postgres.Server {
	b.T.Helper()
	return b.Server(func(c *postgres.Config) {
		var names []string
		for _, pg := range hosts {
			names = append(names, pg.Address())
		}
		c.Host, c.Port = strings.Join(names, ","), 0
		postgres.ForgetPrimary(postgres.Endpoint{Addresses: addressesOf(b.T, *c)})
	})
}

func addressesOf(t testing.TB, c postgres.Config) []postgres.Address {
	t.Helper()
	e, err := c.Endpoint()
	expect.OK(t, err)
	return e.Addresses
}

// TestSeveralHosts has a primary and a replica that lags: whichever comes first, what
// counts is what the primary says, and where it says nothing, nothing is certain.
func TestSeveralHosts(t *testing.T) {
	pg := testenv.NewPostgres(t, testenv.PostgresOptions{})
	b := pgtest.NewBench(t, pg)
	user := b.User(pgtest.Unique("app"))
	set := func(password string) postgres.Login {
		b.SQL("ALTER ROLE %s PASSWORD '%s'", user, password)
		return postgres.Login{user, password}
	}
	before := set("before")
	replica := testenv.NewReplica(t, pg)
	expect.OK(t, replica.CatchUp(t.Context(), pg))
	expect.OK(t, replica.Disconnect(t.Context()))
	after := set("after")
	for name, hosts := range map[string][]*testenv.Postgres{"primary first": {pg, replica}, "replica first": {replica, pg}} {
		for _, known := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, known %t", name, known), func(t *testing.T) {
				s := among(b, hosts...)
				if known {
					s.Primary().Store(&postgres.Address{pg.Host, pg.Port})
				}
				expect.OK(t, s.Try(t.Context(), after))
				if err := s.Try(t.Context(), before); !postgres.LoginRefused(err) {
					t.Errorf("the old password: %v", err)
				}
				if _, err := s.Refusal(t.Context(), before, "the old password"); err != nil {
					t.Error(err)
				}
				if at := s.Primary().Load(); at == nil || at.Port != pg.Port {
					t.Errorf("the primary is taken to be %v", at)
				}
			})
		}
	}
	expect.OK(t, pg.Kill())
	t.Run("without a primary", func(t *testing.T) {
		for _, l := range []postgres.Login{before, after} {
			err := among(b, replica, pg).Try(t.Context(), l)
			if err == nil || postgres.LoginRefused(err) || !strings.Contains(err.Error(), "no host is a primary") {
				t.Errorf("with the password %s: %v", l.Password, err)
			}
		}
	})
	expect.OK(t, replica.Promote(t.Context()))
	t.Run("promoted", func(t *testing.T) {
		s := among(b, pg, replica)
		expect.OK(t, s.Try(t.Context(), before))
		if err := s.Try(t.Context(), after); !postgres.LoginRefused(err) {
			t.Errorf("the lost password: %v", err)
		}
	})
}

// TestAdministratorFollowsThePrimary has the administrator's sessions before and after a
// promotion, without any change of the connection.
func TestAdministratorFollowsThePrimary(t *testing.T) {
	pg := testenv.NewPostgres(t, testenv.PostgresOptions{})
	b := pgtest.NewBench(t, pg)
	replica := testenv.NewReplica(t, pg)
	expect.OK(t, replica.CatchUp(t.Context(), pg))
	b.Connection.Settings.Host, b.Connection.Settings.Port = replica.Address()+","+pg.Address(), 0
	port := func() (port int, err error) {
		err = b.Postgres.Administer(t.Context(), "main", postgres.Rollback, func(conn *pgx.Conn, _ postgres.Server) error {
			return conn.QueryRow(t.Context(), "SELECT inet_server_port()").Scan(&port)
		})
		return port, err
	}
	if at, err := port(); err != nil || at != pg.Port {
		t.Fatalf("it is at %d (%v), the primary at %d", at, err, pg.Port)
	}
	first, err := b.Postgres.Identity(t.Context(), "main")
	expect.OK(t, err)
	expect.OK(t, pg.Kill())
	expect.OK(t, replica.Promote(t.Context()))
	if at, err := port(); err != nil || at != replica.Port {
		t.Fatalf("it is at %d (%v), the new primary at %d", at, err, replica.Port)
	}
	second, err := b.Postgres.Identity(t.Context(), "main")
	if err != nil || second.System != first.System || second.Timeline == first.Timeline || second.Started.Equal(first.Started) {
		t.Errorf("%v became %v (%v)", first, second, err)
	}
}

// TestIdentity asks on every version, as an administrator without privileges: a server
// says the same until it is started again, also one that says nothing else.
func TestIdentity(t *testing.T) {
	for major := 14; major <= 18; major++ {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			pg := testenv.NewPostgres(t, testenv.PostgresOptions{Major: major})
			b := pgtest.NewBench(t, pg)
			for _, locked := range []bool{false, true} {
				if locked {
					b.SQL("REVOKE EXECUTE ON FUNCTION pg_control_system(), pg_walfile_name(pg_lsn), pg_current_wal_insert_lsn() FROM PUBLIC")
				}
				first, err := b.Postgres.Identity(t.Context(), "main")
				expect.OK(t, err)
				again, err := b.Postgres.Identity(t.Context(), "main")
				if err != nil || again != first || (first.System == "") != locked || (first.Timeline == "") != locked {
					t.Errorf("locked %t: %v, then %v (%v)", locked, first, again, err)
				}
				expect.OK(t, pg.Restart(t.Context()))
				if next, err := b.Postgres.Identity(t.Context(), "main"); err != nil || next == first {
					t.Errorf("locked %t: after a restart it is still %v (%v)", locked, next, err)
				}
			}
			b.SQL("ALTER ROLE %s PASSWORD 'lost'", postgres.QuoteName(b.Admin.Username))
			b.Postgres.Forget("main")
			if _, err := b.Postgres.Identity(t.Context(), "main"); !errors.Is(err, rotation.ErrRefused) {
				t.Errorf("without a login: %v", err)
			}
		})
	}
}

// silent listens at an address where every packet is lost: its queue is full.
func silent(t *testing.T, address [4]byte, port int) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	expect.OK(t, err)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	expect.OK(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: address, Port: port}))
	expect.OK(t, syscall.Listen(fd, 0))
	target := net.JoinHostPort(net.IP(address[:]).String(), fmt.Sprint(port))
	lost := 0
	for range 10 {
		conn, err := net.DialTimeout("tcp", target, time.Second)
		if err == nil {
			t.Cleanup(func() { _ = conn.Close() })
		} else if lost++; lost == 2 { // one may be late on a busy machine
			return
		}
	}
	t.Fatalf("%s goes on answering", target)
}

// TestTimeIsDivided has a first address, or a first host, that loses every packet.
func TestTimeIsDivided(t *testing.T) {
	b := pgtest.NewBench(t, pgtest.Shared)
	silent(t, [4]byte{127, 0, 0, 3}, pgtest.Shared.Port)
	for name, change := range map[string]func(*postgres.Config){
		"addresses of a name": func(c *postgres.Config) { c.Host = "db.example" },
		"hosts":               func(c *postgres.Config) { c.Host = "127.0.0.3,127.0.0.1" },
		"both":                func(c *postgres.Config) { c.Host = "127.0.0.3,db.example" },
	} {
		t.Run(name, func(t *testing.T) {
			s := b.Server(func(c *postgres.Config) {
				change(c)
				c.ConnectTimeout = 8 * time.Second
			})
			s.Primary().Store(nil)
			s.ResolveBy(func(ctx context.Context, host string) ([]string, error) {
				if host == "db.example" {
					return []string{"127.0.0.3", "127.0.0.1"}, nil
				}
				return net.DefaultResolver.LookupHost(ctx, host)
			})
			expect.OK(t, s.Try(t.Context(), b.Admin))
		})
	}
}

// TestEachHostProvesItself has hosts whose certificate is for one of their names.
func TestEachHostProvesItself(t *testing.T) {
	b := pgtest.NewBench(t, pgtest.Shared)
	for name, test := range map[string]struct{ hosts, serverName, want string }{
		"by its own name":     {"elsewhere,127.0.0.1", "", ""},
		"by another's":        {"127.0.0.1:1,elsewhere", "", "tls_server_name"},
		"by one name for all": {"127.0.0.1:1,elsewhere", "localhost", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := b.Server(func(c *postgres.Config) {
				c.Host, c.SSLMode, c.TLSCA, c.TLSServerName = test.hosts, "verify-full", pgtest.Shared.CAPEM, test.serverName
			})
			s.ResolveBy(func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil })
			err := s.Try(t.Context(), b.Admin)
			if test.want == "" {
				expect.OK(t, err)
			} else if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want that it mentions %s", err, test.want)
			}
		})
	}
}

// TestWayOfSeveral is what applications are told.
func TestWayOfSeveral(t *testing.T) {
	for name, test := range map[string]struct {
		change                   func(*postgres.Settings)
		host, port, target, tail string
	}{
		"one":      {func(c *postgres.Settings) { c.Host = "a" }, "a", "5432", "", "a:5432/d?sslmode=disable"},
		"several":  {func(*postgres.Settings) {}, "a,b", "5432,5433", "read-write", "a:5432,b:5433/d?sslmode=disable&target_session_attrs=read-write"},
		"primary":  {func(c *postgres.Settings) { c.TargetSessionAttrs = "primary" }, "a,b", "5432,5433", "primary", "a:5432,b:5433/d?sslmode=disable&target_session_attrs=primary"},
		"a port":   {func(c *postgres.Settings) { c.ApplicationPort = 1 }, "a,b", "1", "read-write", "a:1,b:1/d?sslmode=disable&target_session_attrs=read-write"},
		"a pooler": {func(c *postgres.Settings) { c.ApplicationHost = "p" }, "p", "5432", "", "p:5432/d?sslmode=disable"},
		"poolers":  {func(c *postgres.Settings) { c.ApplicationHost = "p,::1" }, "p,::1", "5432", "read-write", "p:5432,[::1]:5432/d?sslmode=disable&target_session_attrs=read-write"},
		"for reading": {func(c *postgres.Settings) {
			c.ApplicationParameters = map[string]string{"target_session_attrs": "any"}
		}, "a,b", "5432,5433", "any", "a:5432,b:5433/d?sslmode=disable&target_session_attrs=any"},
		"one, a target": {func(c *postgres.Settings) { c.Host, c.TargetSessionAttrs = "a", "primary" }, "a", "5432", "", "a:5432/d?sslmode=disable&target_session_attrs=primary"},
	} {
		t.Run(name, func(t *testing.T) {
			c := postgres.Settings{Config: postgres.Config{Host: "a,b:5433", Database: "d", SSLMode: "disable"}}
			test.change(&c)
			way, err := c.Way()
			expect.OK(t, err)
			fields := way.Fields()
			if fields["host"] != test.host || fields["port"] != test.port || fields["target_session_attrs"] != test.target {
				t.Errorf("the fields are %v", fields)
			}
			if got := way.ConnectionString(postgres.Login{"u", "p"}); got != "postgresql://u:p@"+test.tail {
				t.Errorf("the connection string is %s", got)
			}
		})
	}
}
