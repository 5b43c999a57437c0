#!/usr/bin/env node
/** The command line of the compiler and its machine; commands.ts lists what it can do. */

import { COMMANDS } from "./commands.js";
import { main } from "./main.js";

await main("lpu", COMMANDS, process.argv.slice(2));
