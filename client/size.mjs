// What a page pays: each part minified and compressed, against its limit.
import { gzipSync } from 'node:zlib'
import { buildSync } from 'esbuild'

let failed = false
for (const [part, limit] of [['index', 4096], ['react', 1536]]) {
  const { outputFiles } = buildSync({
    entryPoints: [`dist/${part}.js`],
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    external: ['react', 'rooms-client'],
  })
  const size = gzipSync(outputFiles[0].contents, { level: 9 }).length
  console.log(`${part}: ${size} bytes of at most ${limit} (minified, gzip)`)
  failed ||= size > limit
}
process.exit(failed ? 1 : 0)
