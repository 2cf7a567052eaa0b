// Package deploy starts docker-compose.yml for real, with each proxy, and does to
// it what operators and accidents do: it is scaled, its containers are killed and
// restarted under load, it goes down and comes up, it is backed up and restored
// into an empty place.
//
// The engine is the one that docker reaches; where it reaches none, one is
// started for the test, as root, with folders of its own. Images come from the
// registry; where none is in reach, stand-ins with the same names are made from
// the distribution's packages (standin/).
//
// It needs docker, so it has a build tag: make e2e-deploy.
package deploy
