// Package audittest plays what people and programs do to a PostgreSQL, for tests of the watch: sessions with a role, an application and an address of
// their own, on a real server. Addresses are loopback ones that stand for others, since a test cannot come from anywhere.
package audittest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Act is one session of somebody.
type Act struct {
	As          string   `toml:"as" json:"as"`
	App         string   `toml:"app" json:"app"`   // application_name
	From        string   `toml:"from" json:"from"` // address; "[local]": the Unix socket
	Hour        string   `toml:"hour" json:"hour"` // UTC, 15:04
	DB          string   `toml:"db" json:"db"`
	Password    string   `toml:"pw" json:"pw"`           // "": the role's own
	Repeat      int      `toml:"repeat" json:"repeat"`   // so many sessions, one after the other; 0 is 1
	Options     string   `toml:"options" json:"options"` // as PGOPTIONS
	Replication bool     `toml:"replication" json:"replication"`
	SQL         []string `toml:"sql" json:"sql"`
}

// Scenario is an attack, and something harmless that looks like it.
type Scenario struct {
	ID       string `toml:"id" json:"id"`
	Title    string `toml:"title" json:"title"`
	Severity string `toml:"severity" json:"severity"`
	Attack   []Act  `toml:"attack" json:"act"`
	Twin     []Act  `toml:"twin" json:"benign_twin"`
}

// Server is where acts are played.
type Server struct {
	Port     uint16
	Host     string // its address, when sessions come from where they say; "": on the loopback, from the addresses there that stand for others
	Socket   string // folder of the Unix socket
	Password string // of all roles
}

// Loopback is the address of this machine that stands for another one: 10.a.b.c is 127.a.b.c.
func Loopback(address string) (netip.Addr, error) {
	a, err := netip.ParseAddr(address)
	if err != nil || !a.Is4() {
		return a, fmt.Errorf("%s is no IPv4 address", address)
	}
	b := a.As4()
	if b[0] != 10 && b[0] != 127 {
		b[1] = b[0]
	}
	b[0] = 127
	return netip.AddrFrom4(b), nil
}

// Session is somebody who is connected.
type Session struct {
	conn  *pgconn.PgConn
	Local netip.AddrPort // whence; zero for the Unix socket
}

// Open begins a session. One that PostgreSQL refuses is an error, and Local still says whence it came.
func (s Server) Open(ctx context.Context, a Act) (*Session, error) {
	config, err := pgconn.ParseConfig("sslmode=disable")
	if err != nil {
		return nil, err
	}
	opened := &Session{}
	config.Fallbacks = nil
	config.User, config.Database, config.Password, config.Port = a.As, a.DB, a.Password, s.Port
	if a.Password == "" {
		config.Password = s.Password
	}
	config.RuntimeParams = map[string]string{}
	if a.App != "" {
		config.RuntimeParams["application_name"] = a.App
	}
	if a.Options != "" {
		config.RuntimeParams["options"] = a.Options
	}
	if a.Replication {
		config.RuntimeParams["replication"] = "true"
		if len(a.SQL) == 0 || strings.Contains(strings.Join(a.SQL, ""), " LOGICAL ") {
			config.RuntimeParams["replication"] = "database"
		}
	}
	if a.From == "[local]" {
		config.Host = s.Socket
	} else {
		config.Host = "127.0.0.1"
		from, err := Loopback(a.From)
		if s.Host != "" {
			config.Host = s.Host
			from, err = netip.ParseAddr(a.From)
		}
		if err != nil {
			return nil, err
		}
		dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
		config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, addr)
			if err == nil {
				opened.Local = conn.LocalAddr().(*net.TCPAddr).AddrPort()
			}
			return conn, err
		}
	}
	opened.conn, err = pgconn.ConnectConfig(ctx, config)
	return opened, err
}

// PID is that of the process that serves the session.
func (s *Session) PID() uint32 { return s.conn.PID() }

// Connected tells whether PostgreSQL let the session in.
func (s *Session) Connected() bool { return s.conn != nil }

// Do runs what one message of the simple protocol holds; COPY ... FROM STDIN gets one empty row. What PostgreSQL refuses is a *pgconn.PgError, which can be part of the act.
func (s *Session) Do(ctx context.Context, sql string) error {
	var err error
	if strings.HasSuffix(sql, "FROM STDIN") {
		_, err = s.conn.CopyFrom(ctx, bytes.NewReader([]byte("\\N\n")), sql)
	} else {
		_, err = s.conn.Exec(ctx, sql).ReadAll()
	}
	return err
}

// Close ends the session.
func (s *Session) Close(ctx context.Context) error { return s.conn.Close(ctx) }
