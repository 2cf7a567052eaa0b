// Package bucket names where access keys are kept in the queue: for those who read
// them, and for those who say who may.
package bucket

// Keys is the key-value bucket, KeysStream the stream that it is.
const (
	Keys       = "cairn-keys"
	KeysStream = "KV_" + Keys
)
