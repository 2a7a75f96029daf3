package secret

import "sync"

// ahead is work that was begun before anybody asks for its result, each by what it
// is about.
type ahead[T any] struct{ begun sync.Map }

// prepare begins with some work, of which the result is kept until it is released.
func (a *ahead[T]) prepare(about string, work func() (T, error)) (release func()) {
	a.begun.Store(about, start(work))
	return func() { a.begun.Delete(about) }
}

// result returns how to get what comes of work, which begins now if it has not yet.
// A nil ahead has nothing that was begun.
func (a *ahead[T]) result(about string, work func() (T, error)) func() (T, error) {
	if a != nil {
		if begun, ok := a.begun.Load(about); ok {
			return begun.(func() (T, error))
		}
	}
	return start(work)
}

// start begins with work and returns how to get what comes of it.
func start[T any](work func() (T, error)) func() (T, error) {
	result := sync.OnceValues(work)
	go func() {
		defer func() { _ = recover() }() // whoever gets the result is told
		_, _ = result()
	}()
	return result
}
