// Package deploy starts docker-compose.yml with each proxy, and does to it what
// operators and accidents do: it is scaled, its containers are killed and restarted
// under load, it is stopped and started, backed up, and restored into empty volumes.
//
// The engine is the one that docker connects to; if there is none, one is started
// for the test, as root, with folders of its own. Images come from the registry; if
// none is reachable, stand-ins with the same names are built from the distribution's
// packages (standin/).
//
// It needs docker, so it has a build tag: make e2e-deploy.
package deploy
