// Package earth computes distances and sides on the ellipsoid of WGS 84 and in
// degrees. Filters and fences share it, so that they decide alike.
package earth

import "math"

// The ellipsoid of WGS 84, in metres.
const (
	equatorRadius = 6_378_137.0
	flattening    = 1 / 298.257223563
	polarRadius   = equatorRadius * (1 - flattening)
)

// MaxMetres bounds a circle: a quarter of the way around the Earth. Beyond it a
// circle says little, and near the opposite place the series below does not
// converge.
const MaxMetres = 10_000_000

const (
	// distanceSteps bounds the iteration; it takes less than ten away from
	// the opposite place.
	distanceSteps = 50
	// distancePrecision in radians is 0.006 mm.
	distancePrecision = 1e-12
)

// Distance is how far two places are apart on the ellipsoid of WGS 84, in metres,
// to less than a millimetre of what PostGIS says of two geographies: T. Vincenty's
// inverse formula (Survey Review 23, 1975). It is infinite where the two are so
// near to opposite that the formula gives no number.
func Distance(lon1, lat1, lon2, lat2 float64) float64 {
	const radian = math.Pi / 180
	u1 := math.Atan((1 - flattening) * math.Tan(lat1*radian))
	u2 := math.Atan((1 - flattening) * math.Tan(lat2*radian))
	sinU1, cosU1 := math.Sincos(u1)
	sinU2, cosU2 := math.Sincos(u2)
	difference := math.Remainder((lon2-lon1)*radian, 2*math.Pi)
	lambda := difference
	for range distanceSteps {
		sinLambda, cosLambda := math.Sincos(lambda)
		sinSigma := math.Hypot(cosU2*sinLambda, cosU1*sinU2-sinU1*cosU2*cosLambda)
		if sinSigma == 0 {
			return 0
		}
		cosSigma := sinU1*sinU2 + cosU1*cosU2*cosLambda
		sigma := math.Atan2(sinSigma, cosSigma)
		sinAlpha := cosU1 * cosU2 * sinLambda / sinSigma
		cosSqAlpha := 1 - sinAlpha*sinAlpha
		cos2Sigma := 0.0 // along the equator
		if cosSqAlpha > 0 {
			cos2Sigma = cosSigma - 2*sinU1*sinU2/cosSqAlpha
		}
		c := flattening / 16 * cosSqAlpha * (4 + flattening*(4-3*cosSqAlpha))
		before := lambda
		lambda = difference + (1-c)*flattening*sinAlpha*
			(sigma+c*sinSigma*(cos2Sigma+c*cosSigma*(2*cos2Sigma*cos2Sigma-1)))
		if math.Abs(lambda-before) < distancePrecision {
			return arc(sigma, sinSigma, cosSigma, cosSqAlpha, cos2Sigma)
		}
	}
	return math.Inf(1)
}

// arc is the length of the arc sigma of the auxiliary sphere, in metres.
func arc(sigma, sinSigma, cosSigma, cosSqAlpha, cos2Sigma float64) float64 {
	uSq := cosSqAlpha * (equatorRadius*equatorRadius - polarRadius*polarRadius) / (polarRadius * polarRadius)
	a := 1 + uSq/16384*(4096+uSq*(-768+uSq*(320-175*uSq)))
	b := uSq / 1024 * (256 + uSq*(-128+uSq*(74-47*uSq)))
	square := cos2Sigma * cos2Sigma
	delta := b * sinSigma * (cos2Sigma + b/4*(cosSigma*(2*square-1)-
		b/6*cos2Sigma*(4*sinSigma*sinSigma-3)*(4*square-3)))
	return polarRadius * a * (sigma - delta)
}

// A Place is a longitude and a latitude, in degrees.
type Place = [2]float64

// Around is a box that all lies in that is so many metres from a place, or nearer: west,
// south, east and north. West is above east where it crosses the antimeridian.
func Around(p Place, metres float64) (west, south, east, north float64) {
	// Nowhere on the ellipsoid is a degree of latitude shorter, in metres; the
	// margin covers that its curvature is not everywhere the same.
	const degree, margin = 110_574.0, 1.01
	reach := metres*margin/degree + 1e-6
	west, south, east, north = -180, max(-90, p[1]-reach), 180, min(90, p[1]+reach)
	if south <= -90 || north >= 90 {
		return west, south, east, north // a pole is in it, and so is every longitude
	}
	sine := math.Sin(reach*math.Pi/180) / math.Cos(p[1]*math.Pi/180)
	if sine >= 1 {
		return west, south, east, north
	}
	width := math.Asin(sine) * 180 / math.Pi
	if width >= 180 {
		return west, south, east, north
	}
	return Wrap(p[0] - width), south, Wrap(p[0] + width), north
}

// Wrap brings a longitude that has left the usual range back into it.
func Wrap(longitude float64) float64 {
	if -180 <= longitude && longitude <= 180 {
		return longitude
	}
	return math.Remainder(longitude, 360)
}
