// Package preflight is how those who look at a role before it has to rotate tell
// what they found: each thing they looked at, and for each that is not as it should
// be, what to run.
package preflight

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Severity is what a finding means to the operator.
type Severity string

// The severities, the worst first.
const (
	// Error: a rotation will fail, or readers will suffer from it.
	Error Severity = "error"
	// Warning: it will hurt later.
	Warning Severity = "warning"
	// Unknown: it could not be looked at.
	Unknown Severity = "unknown"
	// OK: it was looked at, and is as it should be.
	OK Severity = "ok"
)

// severities is the order in which findings are told.
var severities = []Severity{Error, Warning, Unknown, OK}

// Finding is what was found about one thing. It never contains secret material.
type Finding struct {
	// Check names what was looked at, such as database.admin_option. It stays the
	// same over versions.
	Check    string
	Severity Severity
	// Secret is the name of the secret it is about, empty if it is the whole role.
	Secret string
	// Detail is what was seen, as a sentence without its full stop. It has no control
	// characters.
	Detail string
	// Fix is what to run. Of what could not be looked at it is how a person can look.
	// Nothing if all is well, or if it is for a person to decide, which Detail then says.
	Fix Fix
}

// String tells the finding in one line, without a fix that does not fit into it.
func (f Finding) String() string { return f.Detail + f.Fix.run() }

// Report is all that was found.
type Report []Finding

// Expect notes whether something is as it should be, and returns that. If not, it is
// found with that severity; the detail is made as by fmt.Sprintf, and says so if the fix
// is not told in full.
func (r *Report) Expect(fine bool, check string, severity Severity, fix Fix, format string, args ...any) bool {
	if fine {
		r.Pass(check)
		return true
	}
	*r = append(*r, Finding{Check: check, Severity: severity, Detail: shown(fmt.Sprintf(format, args...)) + fix.note(), Fix: fix})
	return false
}

// Pass notes that a check has found nothing.
func (r *Report) Pass(check string) { *r = append(*r, Finding{Check: check, Severity: OK}) }

// Of returns the findings as those about a secret.
func (r Report) Of(secret string) Report {
	about := slices.Clone(r)
	for i := range about {
		about[i].Secret = secret
	}
	return about
}

// With returns the findings of one severity, each once.
func (r Report) With(severity Severity) Report {
	var found Report
	for _, f := range r {
		if f.Severity == severity && !slices.Contains(found, f) {
			found = append(found, f)
		}
	}
	return found
}

// Open returns all that is not as it should be, the worst first, each once.
func (r Report) Open() Report {
	var open Report
	for _, severity := range severities[:len(severities)-1] {
		open = append(open, r.With(severity)...)
	}
	return open
}

// Passed names the checks that found nothing, each with its secret before it.
func (r Report) Passed() []string {
	open, passed := r.Open(), []string{}
	for _, f := range r.With(OK) {
		failed := slices.ContainsFunc(open, func(o Finding) bool { return o.Check == f.Check && o.Secret == f.Secret })
		if name := f.name(); !failed && !slices.Contains(passed, name) {
			passed = append(passed, name)
		}
	}
	slices.Sort(passed)
	return passed
}

// Ready reports whether nothing was found because of which a rotation would fail or
// readers would suffer.
func (r Report) Ready() bool { return len(r.With(Error)) == 0 }

// name is the check, with its secret before it.
func (f Finding) name() string {
	if f.Secret == "" {
		return f.Check
	}
	return f.Secret + ": " + f.Check
}

// Text tells everything to a person: a line of figures, then each finding with what
// to run on lines of its own, to be copied as they are, then what passed.
func (r Report) Text() string {
	var b strings.Builder
	verdict := "ready"
	if !r.Ready() {
		verdict = "not ready"
	}
	fmt.Fprintf(&b, "%s; errors: %d, warnings: %d, could not be looked at: %d, passed: %d\n",
		verdict, len(r.With(Error)), len(r.With(Warning)), len(r.With(Unknown)), len(r.Passed()))
	for _, f := range r.Open() {
		fmt.Fprintf(&b, "\n%s  %s\n%s\n", strings.ToUpper(string(f.Severity)), f.name(), f.Detail)
		if fix := f.Fix.String(); fix != "" {
			fmt.Fprintln(&b, fix)
		}
	}
	b.WriteString("\nPASSED")
	about := ""
	for _, name := range r.Passed() {
		secret, check, ofSecret := strings.Cut(name, ": ")
		if !ofSecret {
			secret, check = "the role", name
		}
		if secret != about {
			fmt.Fprintf(&b, "\n%s: %s", secret, check)
		} else {
			b.WriteString(", " + check)
		}
		about = secret
	}
	return b.String()
}

// Subject is what is looked at.
type Subject struct {
	// Mount is where the engine is mounted, such as "smvm/", and Role the role's name.
	Mount, Role string
	// Until is how long everything has to last: the time of the rotation after the
	// next one.
	Until time.Time
}

// Write is the command that writes fields to a path that ends with the role.
func (s Subject) Write(path string, fields ...string) Fix {
	return Command(append([]string{"vault", "write", s.Mount + path + "/" + s.Role}, fields...)...)
}

// WriteSecret is the command that writes fields to a secret of the role.
func (s Subject) WriteSecret(name string, fields ...string) Fix {
	return Command(append([]string{"vault", "write", s.Mount + "secrets/" + s.Role + "/" + name}, fields...)...)
}

// Read is the command that reads a path that ends with the role.
func (s Subject) Read(path string) Fix { return Command("vault", "read", s.Mount+path+"/"+s.Role) }
