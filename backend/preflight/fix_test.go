package preflight

import (
	"os/exec"
	"strings"
	"testing"
)

func TestFix(t *testing.T) {
	for name, test := range map[string]struct {
		fix  Fix
		want string
	}{
		"nothing":    {Fix{}, ""},
		"quotes":     {SQL(Say("ALTER ROLE %s SET role = %s", Name(`a"b`), Literal(`c'\`))), settled + "\nALTER ROLE \"a\"\"b\" SET role =  E'c''\\\\';"},
		"list":       {SQL(Say("GRANT %s TO %s", Name("x"), Names("a", "b"))), settled + "\nGRANT \"x\" TO \"a\", \"b\";"},
		"body":       {SQL(Say("DO %s", Body(Say("ALTER ROLE %s RESET ALL", Name("a"))))), settled + "\nDO $smvm$ ALTER ROLE \"a\" RESET ALL; $smvm$;"},
		"body again": {SQL(Say("DO %s", Body(Say("ALTER ROLE %s RESET ALL", Name("$smvm$"))))), settled + "\nDO 'ALTER ROLE \"$smvm$\" RESET ALL;';"},
		"elsewhere":  {SQL(Connect("other db"), Say("SELECT 1"), Say("SELECT 2")), "\\connect \"other db\"\n" + settled + "\nSELECT 1;\nSELECT 2;"},
		"password":   {SQL(SetPassword("a-b.c")), `\password "a-b.c"`},
		"granted": {
			SQL(Granted(`GRANT SELECT ("x y") ON TABLE public."T" TO "a";`), Granted(`GRANT EXECUTE ON ROUTINE "S".f(integer,"S"."t u"[],double precision) TO "a" WITH GRANT OPTION;`), Granted(`ALTER DEFAULT PRIVILEGES FOR ROLE o IN SCHEMA "S" GRANT USAGE ON TYPES TO PUBLIC;`), Granted(`GRANT SELECT ON LARGE OBJECT 12 TO "a";`)),
			settled + "\nGRANT SELECT (\"x y\") ON TABLE public.\"T\" TO \"a\";\nGRANT EXECUTE ON ROUTINE \"S\".f(integer,\"S\".\"t u\"[],double precision) TO \"a\" WITH GRANT OPTION;\n" +
				"ALTER DEFAULT PRIVILEGES FOR ROLE o IN SCHEMA \"S\" GRANT USAGE ON TYPES TO PUBLIC;\nGRANT SELECT ON LARGE OBJECT 12 TO \"a\";",
		},
		"shell": {Command("vault", "write", "a b/$(touch made)", "it's", "=x", ""), `vault write 'a b/$(touch made)' 'it'\''s' '=x' ''`},
	} {
		if got := test.fix.String(); got != test.want || test.fix.note() != "" {
			t.Errorf("%s is\n%s\nwant\n%s", name, got, test.want)
		}
	}
}

// TestWithheld is about what no quoting makes safe for who pastes it.
func TestWithheld(t *testing.T) {
	for name, fix := range map[string]Fix{
		"line end":              SQL(Say("ALTER ROLE %s LOGIN", Name("a\n\\! touch made"))),
		"line end in a list":    SQL(Say("GRANT %s TO %s", Name("x"), Names("a", "b\r"))),
		"line end in a literal": SQL(Say("ALTER ROLE %s SET role = %s", Name("x"), Literal("a\nb"))),
		"line end in a body":    SQL(Say("DO %s", Body(Say("ALTER ROLE %s RESET ALL", Name("a\n"))))),
		"escape":                SQL(Say("ALTER ROLE %s LOGIN", Name("a\x1b[2J"))),
		"tab":                   SQL(Say("ALTER ROLE %s LOGIN", Name("a\tb"))),
		"from right to left":    SQL(Say("ALTER ROLE %s LOGIN", Name("a\u202eb"))),
		"a blank letter":        SQL(Say("ALTER ROLE %s LOGIN", Name("a\u3164"))),
		"a blank sign":          SQL(Say("ALTER ROLE %s LOGIN", Name("a\u2800"))),
		"a blank mark":          SQL(Say("ALTER ROLE %s LOGIN", Name("a\u034f\ufe0fb"))),
		"a blank in a grant":    SQL(Granted("GRANT SELECT ON TABLE \"x\u115f\" TO \"a\";")),
		"a blank for a shell":   Command("vault", "read", "a\uffa0"),
		"not UTF-8":             SQL(Say("ALTER ROLE %s LOGIN", Name("a\xff"))),
		"swallows a quote":      SQL(Say("ALTER ROLE %s LOGIN", Name(`丁"; ALTER ROLE x SUPERUSER; --`))),
		"swallows the next":     SQL(Say("GRANT %s TO %s", Name("丁"), Name(`"; ALTER ROLE x SUPERUSER; --`))),
		"swallows a granted":    SQL(Granted(`GRANT SELECT ON TABLE "丁"."x""; ALTER ROLE x SUPERUSER; --" TO "a";`)),
		"the way alone":         SQL(Connect("x"), Granted("GRANT SELECT ON TABLE \"x\n\" TO \"a\";")),
		"an address":            SQL(Connect("host=127.0.0.1 dbname=x"), Say("SELECT 1")),
		"an address's URL":      SQL(Connect("postgresql://127.0.0.1/x"), Say("SELECT 1")),
		"a program":             SQL(SetPassword("`touch made`")),
		"a variable":            SQL(SetPassword(":x")),
		"a quote":               SQL(SetPassword(`a" "b`)),
		"no grant":              SQL(Granted(`GRANT postgres TO "a";`)),
		"two grants":            SQL(Granted(`GRANT SELECT ON TABLE x TO "a"; ALTER ROLE a SUPERUSER;`)),
		"a grant, unquoted":     SQL(Granted(`GRANT SELECT ON TABLE x\! TO "a";`)),
		"a shell's line end":    Command("vault", "read", "a\nb"),
	} {
		if fix.String() != "" || fix.note() == "" || strings.Contains(fix.Clause(), "run:") {
			t.Errorf("%s: %q, %q", name, fix, fix.Clause())
		}
	}
	some := SQL(Granted(`GRANT SELECT ON TABLE x TO "a";`), Granted("GRANT SELECT ON TABLE \"x\n\" TO \"a\";"))
	if some.String() != settled+"\nGRANT SELECT ON TABLE x TO \"a\";" || !strings.Contains(some.Clause(), "not told in full; ") && some.note() == "" {
		t.Errorf("of two, one is told as %q", some.Clause())
	}
}

// TestDetailShows that findings have no control characters, whoever named what.
func TestDetailShows(t *testing.T) {
	var r Report
	r.Expect(false, "x", Warning, SQL(Say("ALTER ROLE %s LOGIN", Name("a\nb"))), "%s, %v", "a\x1b[2J\nb\u202e\u3164\xff", []string{"\r"})
	if d := r[0].Detail; !strings.HasPrefix(d, `a\x1b[2J\nb\u202e\u3164?, [\r]; what mends it is not told in full`) {
		t.Errorf("the detail is %q", d)
	}
}

// TestOneLine keeps psql's commands, which end with their line, from taking the next
// statement for their arguments.
func TestOneLine(t *testing.T) {
	if got := SQL(Connect("other"), Say("SELECT 1")).Clause(); got != "; verify tells what to run" {
		t.Error(got)
	}
	if got := SQL(Say("SELECT 1")).Clause(); got != "; run: "+settled+" SELECT 1;" {
		t.Error(got)
	}
}

// TestShell runs commands for a mount whose path is a program, and sees which words
// the shell makes of them.
func TestShell(t *testing.T) {
	for _, path := range []string{"smvm/", "a b/", "$(echo made)/", "`echo made`/", "a;echo made/", "it's/", `"/`, `\/`, "*/", "~/", "!x/", "#/", "{a,b}/", "naïve/", "-x/"} {
		s := Subject{Mount: path, Role: "r"}
		script := "vault() { for word; do echo \"<$word>\"; done; }\n" + s.Write("rotate", "reason=a b", "x=$(echo made)").String()
		cmd := exec.CommandContext(t.Context(), "sh")
		cmd.Stdin, cmd.Dir = strings.NewReader(script), t.TempDir()
		out, err := cmd.CombinedOutput()
		if want := "<write>\n<" + path + "rotate/r>\n<reason=a b>\n<x=$(echo made)>\n"; err != nil || string(out) != want {
			t.Errorf("%s: %v, got\n%swant\n%s", script, err, out, want)
		}
	}
}
