// Package bucket names the buckets of the queue in which access keys are stored, for
// those who read them and for the permissions of the queue's users.
package bucket

// Keys is the key-value bucket, KeysStream the stream that it is.
const (
	Keys       = "cairn-keys"
	KeysStream = "KV_" + Keys
)
