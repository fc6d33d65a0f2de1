package subscriptions

// WithPaused is a stored subscription that is paused, or is not. Nothing else of it changes.
func WithPaused(stored []byte, paused bool) ([]byte, error) {
	sub, err := readObject(stored)
	if err != nil {
		return nil, &ConflictError{"the stored subscription cannot be read (" + err.Error() + "): write it again"}
	}
	if !paused {
		return writeObject(sub.without("paused")), nil
	}
	return writeObject(sub.with("paused", "true")), nil
}
