package main

import (
	"context"
)

// singles is how many rotations one turn times, one after the other.
const singles = 40

// measureRotation compares one rotation by hand.
func measureRotation(ctx context.Context, w *world, s settings) ([]row, error) {
	say("one rotation at a time")
	if err := w.createUsers(ctx, "single", 3); err != nil {
		return nil, err
	}
	if err := w.write(ctx, []step{
		{ours + "/roles/single", map[string]any{"rotation_period": "24h"}},
		{ours + "/secrets/single/db", map[string]any{"type": "database", "connection": "main", "rotation_strategy": "alternating_users", "usernames": "single0,single1"}},
		{ours + "/secrets/single/jwt", map[string]any{"type": "jwt", "algorithm": "ES256"}},
		{ours + "/secrets/single/api", map[string]any{"type": "api_key"}},
		{builtin + "/static-roles/single", map[string]any{"db_name": "main", "username": "single2", "rotation_period": "24h"}},
	}); err != nil {
		return nil, err
	}
	timing := func(path string) figure {
		return durationOf("`"+path+"`", singles, func(ctx context.Context, _ int) error { return w.post(ctx, path, nil) })
	}
	found, err := w.compare(ctx, s.rounds, timing(ours+"/rotate/single"), timing(builtin+"/rotate-role/single"))
	if err != nil {
		return nil, err
	}
	return []row{
		atMost("one manual rotation of a database secret, a JWT key and an API key, tested and recorded", "median duration, compared with one `rotate-role` of the database engine, which changes one password, does not test it by a login, and keeps no history", 2, found[0], found[1], "ms"),
	}, nil
}
