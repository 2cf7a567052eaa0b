#!/usr/bin/env node
// Follow what comes, changes and goes, with nothing but Node 18 or later.
// usage: live.mjs [http://localhost:8080] [name=value ...], each a parameter of GET /stream
//
// A browser has EventSource for this; here are the few lines that it takes without. It
// goes on where it was when the connection breaks, and so misses nothing.

process.stdout.on('error', () => process.exit()) // who reads has gone

const [server = 'http://localhost:8080', ...filters] = process.argv.slice(2)
const query = new URLSearchParams(filters.map((filter) => filter.split(/=(.*)/s, 2)))
let last = query.get('since')
query.delete('since')

function tell(event, data) {
  if (event === 'reset') return console.log('begin again from GET /points', data.position)
  if (event === 'deleted') return console.log('-', data.id)
  console.log(event === 'updated' ? '~' : '+', data.id, ...data.geometry.coordinates, data.properties.name ?? '')
}

async function follow() {
  const headers = last === null ? {} : { 'Last-Event-ID': last }
  const answer = await fetch(`${server}/stream?${query}`, { headers })
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`)
  let text = ''
  for await (const part of answer.body.pipeThrough(new TextDecoderStream())) {
    const events = (text + part).split('\n\n')
    text = events.pop()
    for (const event of events) {
      const fields = Object.fromEntries(event.split('\n').map((line) => line.split(/: ?(.*)/s, 2)))
      if (fields.data) tell(fields.event, JSON.parse(fields.data))
      if (fields.id) last = fields.id
    }
  }
}

for (;;) {
  await follow().catch((error) => console.error(error.cause?.message ?? error.message))
  await new Promise((resolve) => setTimeout(resolve, 1000))
}
