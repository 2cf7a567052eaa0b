package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"cairn/bus"
	"cairn/internal/auth"

	"github.com/nats-io/nats.go/jetstream"
)

type keysCmd struct {
	Add keysAddCmd `cmd:"" help:"Create an access key and print it, once."`
	Ls  keysLsCmd  `cmd:"" help:"List the access keys, without their secrets."`
	Rm  keysRmCmd  `cmd:"" help:"Revoke access keys immediately; streams that were opened with them end."`
}

// keysFlags are how the bucket of keys is reached.
type keysFlags struct {
	dataFlag
	natsURLFlag
	natsPasswordsFlag
	logFlags
	JSON bool `help:"Write JSON."`
}

func (f *keysFlags) writeJSON(s *session, what any) error {
	e := json.NewEncoder(s.stdout)
	e.SetIndent("", "  ")
	return e.Encode(what)
}

// withBucket runs do with the bucket.
func (f *keysFlags) withBucket(s *session, do func(context.Context, *auth.Bucket) error) error {
	endpoint, err := remoteQueue(f.dataFlag, f.natsURLFlag, f.natsPasswordsFlag, bus.UserAdmin)
	if err != nil {
		return err
	}
	nc, err := bus.Reach(s.ctx, endpoint, f.logger(s))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, repairTimeout)
	defer cancel()
	bucket, err := auth.OpenBucket(ctx, js)
	if err != nil {
		return err
	}
	return do(ctx, bucket)
}

type keysAddCmd struct {
	keysFlags
	Name    string `arg:"" help:"Name of the key, which is the author of what it writes. Letters, digits, - and _."`
	Scope   string `default:"read" placeholder:"read,write,edit,admin" help:"Scopes: read; write, which creates points; edit, which changes and deletes them; admin, for metrics and status (${default})."`
	Expires age    `placeholder:"AGE" help:"When it expires, from now, such as 90d or 36h. Empty: never."`
	Area    string `placeholder:"W,S,E,N" help:"Area that it is limited to, in degrees, such as --area=-5,42,9,51: it sees, creates and changes no point outside. Empty: everywhere."`
	Rate    int    `placeholder:"NUMBER" help:"Limit on its requests per second. 0: no limit."`
}

func (c *keysAddCmd) Run(s *session) error {
	scopes, err := auth.ParseScopes(c.Scope)
	if err == nil {
		err = auth.CheckName(c.Name)
	}
	if err == nil && c.Rate < 0 {
		err = errors.New("--rate is how many requests a second are taken; 0 is all")
	}
	if err != nil {
		return usageError{err}
	}
	i := &auth.Identity{Name: c.Name, Scopes: scopes, Rate: c.Rate}
	now := time.Now()
	if c.Expires != 0 {
		i.Expires = now.Add(time.Duration(c.Expires)).UTC().Truncate(time.Second)
	}
	if c.Area != "" {
		if i.Area, err = auth.ParseArea(c.Area); err != nil {
			return usageError{err}
		}
	}
	return c.withBucket(s, func(ctx context.Context, b *auth.Bucket) error {
		key, err := b.Add(ctx, i, now)
		if err != nil {
			return err
		}
		if c.JSON {
			d := i.Document(now, now)
			d.Key = key
			return c.writeJSON(s, d)
		}
		if _, err := fmt.Fprintln(s.stdout, key); err != nil {
			return err
		}
		_, err = fmt.Fprintln(s.stderr, "This is shown once. Send it as  Authorization: Bearer "+key[:10]+"…")
		return err
	})
}

type keysLsCmd struct{ keysFlags }

func (c *keysLsCmd) Run(s *session) error {
	return c.withBucket(s, func(ctx context.Context, b *auth.Bucket) error {
		keys, err := b.List(ctx)
		if err != nil {
			return err
		}
		now := time.Now()
		if c.JSON {
			list := make([]auth.KeyDocument, len(keys))
			for n, k := range keys {
				list[n] = k.Document(k.Created, now)
			}
			return c.writeJSON(s, list)
		}
		if len(keys) == 0 {
			_, err := fmt.Fprintln(s.stderr, "There are no access keys. Make one with: cairn keys add NAME --scope read,write")
			return err
		}
		w := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "NAME\tSCOPES\tCREATED\tEXPIRES\tAREA\tRATE")
		for _, k := range keys {
			expires, area, rate := "never", "everywhere", "all"
			if !k.Expires.IsZero() {
				expires = k.Expires.UTC().Format(time.RFC3339)
				if now.After(k.Expires) {
					expires += " (over)"
				}
			}
			if k.Area != nil {
				area = strings.Trim(strings.ReplaceAll(fmt.Sprint(*k.Area), " ", ","), "[]")
			}
			if k.Rate > 0 {
				rate = fmt.Sprintf("%d/s", k.Rate)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", k.Name, k.Scopes, k.Created.UTC().Format(time.RFC3339), expires, area, rate)
		}
		return w.Flush()
	})
}

type keysRmCmd struct {
	keysFlags
	Names []string `arg:"" name:"NAME" help:"Names of the keys."`
}

func (c *keysRmCmd) Run(s *session) error {
	return c.withBucket(s, func(ctx context.Context, b *auth.Bucket) error {
		removed := []string{}
		var failed []error
		for _, name := range c.Names {
			if err := b.Remove(ctx, name); err != nil {
				failed = append(failed, err)
				continue
			}
			removed = append(removed, name)
		}
		switch {
		case c.JSON:
			failed = append(failed, c.writeJSON(s, map[string]any{"removed": removed}))
		case len(removed) > 0:
			_, err := fmt.Fprintln(s.stderr, "Removed", strings.Join(removed, ", ")+".")
			failed = append(failed, err)
		}
		return errors.Join(failed...)
	})
}
