package main

import (
	"math"
	"math/rand/v2"
)

// A town is where points lie around.
type town struct {
	name                string
	longitude, latitude float64
}

// towns are real ones, on every continent: large and small, by the sea (where
// half of a box is empty) and inland, some close to each other.
var towns = []town{
	{"London", -0.13, 51.51}, {"Paris", 2.35, 48.86}, {"Berlin", 13.41, 52.52}, {"Madrid", -3.70, 40.42}, {"Rome", 12.50, 41.90},
	{"Vienna", 16.37, 48.21}, {"Warsaw", 21.01, 52.23}, {"Budapest", 19.04, 47.50}, {"Prague", 14.42, 50.09}, {"Lisbon", -9.14, 38.72},
	{"Dublin", -6.26, 53.35}, {"Oslo", 10.75, 59.91}, {"Stockholm", 18.07, 59.33}, {"Helsinki", 24.94, 60.17}, {"Copenhagen", 12.57, 55.68},
	{"Amsterdam", 4.90, 52.37}, {"Brussels", 4.35, 50.85}, {"Lyon", 4.84, 45.76}, {"Marseille", 5.37, 43.30}, {"Bordeaux", -0.58, 44.84},
	{"Hamburg", 9.99, 53.55}, {"Munich", 11.58, 48.14}, {"Cologne", 6.96, 50.94}, {"Zurich", 8.54, 47.37}, {"Geneva", 6.14, 46.20},
	{"Milan", 9.19, 45.46}, {"Naples", 14.27, 40.85}, {"Athens", 23.73, 37.98}, {"Sofia", 23.32, 42.70}, {"Bucharest", 26.10, 44.43},
	{"Kyiv", 30.52, 50.45}, {"Istanbul", 28.98, 41.01}, {"Ankara", 32.85, 39.93}, {"Moscow", 37.62, 55.76}, {"Reykjavik", -21.94, 64.15},
	{"Tromsø", 18.96, 69.65}, {"Edinburgh", -3.19, 55.95}, {"Manchester", -2.24, 53.48}, {"Barcelona", 2.17, 41.39}, {"Seville", -5.98, 37.39},
	{"Cairo", 31.24, 30.04}, {"Alexandria", 29.92, 31.20}, {"Tunis", 10.18, 36.81}, {"Algiers", 3.06, 36.75}, {"Casablanca", -7.59, 33.57},
	{"Dakar", -17.45, 14.69}, {"Accra", -0.19, 5.60}, {"Lagos", 3.38, 6.52}, {"Abuja", 7.49, 9.06}, {"Kinshasa", 15.31, -4.33},
	{"Luanda", 13.23, -8.84}, {"Nairobi", 36.82, -1.29}, {"Addis Ababa", 38.75, 9.03}, {"Kampala", 32.58, 0.35}, {"Dar es Salaam", 39.28, -6.82},
	{"Johannesburg", 28.05, -26.20}, {"Cape Town", 18.42, -33.92}, {"Durban", 31.02, -29.86}, {"Windhoek", 17.08, -22.56}, {"Antananarivo", 47.51, -18.88},
	{"Jerusalem", 35.21, 31.77}, {"Beirut", 35.50, 33.89}, {"Baghdad", 44.36, 33.31}, {"Tehran", 51.39, 35.69}, {"Riyadh", 46.68, 24.71},
	{"Dubai", 55.27, 25.20}, {"Karachi", 67.01, 24.86}, {"Lahore", 74.34, 31.55}, {"Delhi", 77.21, 28.61}, {"Mumbai", 72.88, 19.08},
	{"Bengaluru", 77.59, 12.97}, {"Chennai", 80.27, 13.08}, {"Kolkata", 88.36, 22.57}, {"Dhaka", 90.41, 23.81}, {"Colombo", 79.86, 6.93},
	{"Kathmandu", 85.32, 27.72}, {"Yangon", 96.16, 16.87}, {"Bangkok", 100.50, 13.76}, {"Hanoi", 105.83, 21.03}, {"Singapore", 103.82, 1.35},
	{"Jakarta", 106.85, -6.21}, {"Manila", 120.98, 14.60}, {"Hong Kong", 114.17, 22.32}, {"Shanghai", 121.47, 31.23}, {"Beijing", 116.41, 39.90},
	{"Seoul", 126.98, 37.57}, {"Tokyo", 139.69, 35.69}, {"Osaka", 135.50, 34.69}, {"Sapporo", 141.35, 43.06}, {"Novosibirsk", 82.92, 55.03},
	{"Almaty", 76.95, 43.24}, {"Tashkent", 69.24, 41.30}, {"Sydney", 151.21, -33.87}, {"Melbourne", 144.96, -37.81}, {"Brisbane", 153.03, -27.47},
	{"Perth", 115.86, -31.95}, {"Darwin", 130.84, -12.46}, {"Auckland", 174.76, -36.85}, {"Wellington", 174.78, -41.29}, {"Suva", 178.44, -18.14},
	{"New York", -74.01, 40.71}, {"Boston", -71.06, 42.36}, {"Philadelphia", -75.17, 39.95}, {"Washington", -77.04, 38.91}, {"Atlanta", -84.39, 33.75},
	{"Miami", -80.19, 25.76}, {"Chicago", -87.63, 41.88}, {"Detroit", -83.05, 42.33}, {"Houston", -95.37, 29.76}, {"Dallas", -96.80, 32.78},
	{"Denver", -104.99, 39.74}, {"Phoenix", -112.07, 33.45}, {"Los Angeles", -118.24, 34.05}, {"San Francisco", -122.42, 37.77}, {"Seattle", -122.33, 47.61},
	{"Anchorage", -149.90, 61.22}, {"Honolulu", -157.86, 21.31}, {"Vancouver", -123.12, 49.28}, {"Toronto", -79.38, 43.65}, {"Montreal", -73.57, 45.50},
	{"Mexico City", -99.13, 19.43}, {"Havana", -82.37, 23.11}, {"Panama City", -79.52, 8.98}, {"Bogotá", -74.07, 4.71}, {"Quito", -78.47, -0.18},
	{"Lima", -77.04, -12.05}, {"La Paz", -68.15, -16.49}, {"Santiago", -70.67, -33.45}, {"Buenos Aires", -58.38, -34.60}, {"Montevideo", -56.16, -34.90},
	{"São Paulo", -46.63, -23.55}, {"Rio de Janeiro", -43.17, -22.91}, {"Brasília", -47.88, -15.79}, {"Recife", -34.88, -8.05}, {"Manaus", -60.02, -3.12},
}

const (
	// spreadKm is the standard deviation of the points around a town's centre:
	// two thirds are within a drive of a quarter of an hour.
	spreadKm = 8
	// kmPerDegree is that of latitude, and of longitude at the equator.
	kmPerDegree = 111.2
)

// near is a place as far from the town as points are.
func (t town) near(rng *rand.Rand) (longitude, latitude float64) {
	latitude = t.latitude + rng.NormFloat64()*spreadKm/kmPerDegree
	longitude = t.longitude + rng.NormFloat64()*spreadKm/kmPerDegree/math.Cos(t.latitude*math.Pi/180)
	return min(max(longitude, -180), 180), latitude
}

func anyTown(rng *rand.Rand) town { return towns[rng.IntN(len(towns))] }
