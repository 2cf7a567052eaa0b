package schema

// CellBits is how fine the grid is in which the points of a segment are counted: 2¹⁴
// cells from west to east, 2.4 km at the equator.
const CellBits = 14

// Cell is the column and the row, from the north-west, of a row's cell in the grid
// over Web Mercator, as SQL. In Postgres it is an error where a product of numbers that
// are not 0 is too small to be another number, so nothing is divided or multiplied that
// may be as small as that: one such point would keep all of its segment from being counted.
const (
	CellColumn = `least(16383, greatest(0, floor((st_x(geom) + 180) / 360 * 16384)))::int`
	CellRow    = `least(16383, greatest(0, floor((0.5 - ln((1 + ` + sine + `) / (1 - ` + sine + `)) / (4 * pi())) * 16384)))::int`

	// Beside 1e-300, what is smaller than any number that could be multiplied is 0.
	sine = `sin(radians(greatest(-85.0511287798, least(85.0511287798, st_y(geom) + 1e-300 - 1e-300))))`
)

// MaxCells bounds the cells that are kept of a segment; where there are more, they
// are coarser, by up to MaxCoarse bits.
const (
	MaxCells  = 1 << 17
	MaxCoarse = 6
)
