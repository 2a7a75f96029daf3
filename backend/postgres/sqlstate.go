package postgres

import (
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// sqlstates is a line for each SQLSTATE that PostgreSQL defines in any of its
// versions: the code, and the name of the condition.
//
//go:embed sqlstates.txt
var sqlstates string

// conditions are the names of sqlstates.
var conditions = sync.OnceValue(func() map[string]string {
	names := make(map[string]string)
	for line := range strings.Lines(sqlstates) {
		code, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		names[code] = name
	}
	return names
})

// condition says what a SQLSTATE stands for, in PostgreSQL's words. What PostgreSQL
// does not define is somebody else's, and may be anything.
func condition(code string) string {
	if name := conditions()[code]; name != "" {
		return fmt.Sprintf("%s (SQLSTATE %s)", name, code)
	}
	return "the application's code raised an error with a SQLSTATE of its own"
}

// WithoutMessage gives up what the server says about an error of a statement that
// others wrote, or that may run their code, and keeps its SQLSTATE: the message may be
// any text, rows and passwords included.
func WithoutMessage(err error) error {
	var answer *serverError
	if !errors.As(err, &answer) || answer.code == "" {
		return err
	}
	return &serverError{code: answer.code, text: condition(answer.code)}
}
