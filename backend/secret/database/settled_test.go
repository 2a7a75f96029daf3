package database

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/postgres"
)

// harmless are the settings that a user may change and that the engine leaves alone,
// with the reason why.
var harmless = map[string]string{
	`^enable_|_cost$|^geqo|_collapse_limit$|^jit_|^constraint_exclusion$|^cursor_tuple_fraction$|^default_statistics_target$|^effective_|^plan_cache_mode$|^recursive_worktable_factor$`: "which plan is chosen, not what it answers",
	`parallel|^backend_flush_after$|_io_concurrency$|^io_combine_limit$|_mem$|^hash_mem_multiplier$|^temp_buffers$|^gin_pending_list_limit$|^wal_|^commit_siblings$|^file_copy_method$`:  "how much of the machine is used",
	`^vacuum_|^debug_logical_replication|^logical_decoding`:                                           "maintenance and replication, which no statement of the engine is",
	`^lc_|^default_text_search_config$|^timezone_abbreviations$|^icu_validation_level$`:               "formatting and parsing that no statement of the engine asks for",
	`^trace_|^debug_pretty_print$|^escape_string_warning$|^md5_password_warnings$|^application_name$`: "lines of the log without the statement, names",
	`^default_toast_compression$|^default_table_access_method$|^synchronize_seqscans$`:                "how rows are kept, and in which order those come that are not sorted",
	`^client_connection_check_interval$|^idle_session_timeout$|^local_preload_libraries$`:             "the connection outside of transactions, and its beginning, of which beginsSettled takes care",
	`^synchronous_commit$|^transaction_isolation$|^transaction_read_only$|^transaction_deferrable$`:   "said by opening itself",
	`^restrict_nonsystem_relation_kind$`:                                                              "14 to 16 have it in some releases only, and it refuses, at most",
}

// decided expects every setting that a user may change either to be the engine's own or
// to be harmless, so that one of a new version of PostgreSQL is not overlooked.
func (a *ambush) decided(spoilt map[string]string) {
	a.T.Helper()
	var own []string
	for _, s := range postgres.Settled {
		own = append(own, s.Name)
		if spoilt[s.Name] == "" && s.Since == 0 && !slices.Contains([]string{"xmloption", "default_tablespace", "temp_tablespaces", "password_encryption"}, s.Name) {
			a.T.Errorf("%s is not spoilt", s.Name)
		}
	}
	for name := range spoilt {
		known := slices.Contains(own, name)
		for pattern := range maps.Keys(harmless) {
			known = known || regexp.MustCompile(pattern).MatchString(name)
		}
		if !known {
			a.T.Errorf("nobody has decided about %s", name)
		}
	}
}

// settings compares those in a transaction with what they have to be.
func (a *ambush) settings() {
	a.T.Helper()
	compare := func(conn *pgx.Conn, _ postgres.Server) error {
		for _, s := range postgres.Settled {
			var got string
			const query = "SELECT coalesce((SELECT setting FROM pg_catalog.pg_settings WHERE name = $1), pg_catalog.current_setting($1, true), 'unknown')"
			expect.OK(a.T, postgres.QueryRow(a.T.Context(), conn, query, []any{s.Name}, &got))
			if want := strings.Join(s.Values, ", "); s.Since <= a.PG.Version/10000 && strings.Trim(got, `"`) != want {
				a.T.Errorf("%s is %q, want %q", s.Name, got, want)
			}
		}
		var durable, isolation string
		expect.OK(a.T, postgres.QueryRow(a.T.Context(), conn, "SELECT pg_catalog.current_setting('synchronous_commit'), pg_catalog.current_setting('transaction_isolation')", nil, &durable, &isolation))
		if durable != "on" || isolation != "read committed" {
			a.T.Errorf("commits are durable: %s, the isolation is %s", durable, isolation)
		}
		return nil
	}
	a.unharmed("settings", a.Postgres.Administer(a.T.Context(), "main", postgres.Rollback, compare))
	a.unharmed("settings of a look", a.Postgres.Look(a.T.Context(), "main", compare))
}
