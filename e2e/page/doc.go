// Package page looks at the map page in a real browser, served by the real binary.
// It is a module of its own, because what drives the browser is no part of Cairn.
package page
