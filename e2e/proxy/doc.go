// Package proxy tests the configurations of deploy/haproxy and deploy/nginx as
// they are, in front of the real roles on loopback: one ingest, one projector,
// and query replicas that each have an address of their own (127.0.0.11 and on),
// as containers have. Small servers of the tests do what no role does on
// purpose: die while processing a request, or pause in the middle of an answer.
//
// It needs haproxy and nginx, so it has a build tag: make e2e-proxy.
package proxy
