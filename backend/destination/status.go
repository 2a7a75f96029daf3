package destination

import (
	"fmt"
	"net/http"
)

// explain is the error for the end of a request of HTTP, nil for success: that of
// the way there, if there is one, or who answered the status, what it means here,
// and whether trying again may help.
func explain(status int, err error, who string) error {
	switch {
	case err != nil:
		return ruled(err)
	case status >= 200 && status <= 299:
		return nil
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return refused("%s answered with status %d: permission denied; give the credentials of this destination the rights that bootstrap/operate/destinations/ lists", who, status)
	case status == http.StatusConflict:
		return refused("%s answered with status 409: it has a newer version, or the name is taken there", who)
	case status == http.StatusRequestEntityTooLarge, status == http.StatusInsufficientStorage:
		return fmt.Errorf("%s answered with status %d: it is full, or the values are too large for it; make room there", who, status)
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests, status >= 500, status < 400:
		return fmt.Errorf("%s answered with status %d", who, status)
	}
	return refused("%s answered with status %d", who, status)
}
