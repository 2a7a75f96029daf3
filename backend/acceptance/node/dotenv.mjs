// Prints what dotenv reads from a file, as JSON.
import fs from 'node:fs'
import dotenv from 'dotenv'

console.log(JSON.stringify(dotenv.parse(fs.readFileSync(process.argv[2]))))
