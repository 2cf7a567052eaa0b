package schema

// CellBits is how fine the grid is in which the points of a segment are counted: 2¹⁴
// cells from west to east, 2.4 km at the equator.
const CellBits = 14

// Cell is the column and the row, from the north-west, of a row's cell in the grid
// over Web Mercator, as SQL.
const (
	CellColumn = `least(16383, greatest(0, floor((st_x(geom) / 360 + 0.5) * 16384)))::int`
	CellRow    = `least(16383, greatest(0, floor((0.5 - ln((1 + ` + sine + `) / (1 - ` + sine + `)) / (4 * pi())) * 16384)))::int`

	sine = `sin(radians(greatest(-85.0511287798, least(85.0511287798, st_y(geom)))))`
)

// MaxCells bounds the cells that are kept of a segment; where there are more, they
// are coarser, by up to MaxCoarse bits.
const (
	MaxCells  = 1 << 17
	MaxCoarse = 6
)
