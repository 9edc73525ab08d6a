// Ctrl-C ends an answer, Ctrl-D the program.

import Foundation

exit(await run(Array(CommandLine.arguments.dropFirst())))
