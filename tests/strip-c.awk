# SPDX-License-Identifier: Apache-2.0
# Prints C sources without comments, and with every string and character
# literal emptied; lines keep their numbers.  #include lines keep their name.
# Called by the tests that look for words that code must not use.

FNR == 1 {
    in_comment = 0
}

{
    line = $0
    out = ""
    n = length(line)
    include_line = !in_comment && line ~ /^[ \t]*#[ \t]*include/
    for (i = 1; i <= n; i++) {
        c = substr(line, i, 1)
        two = substr(line, i, 2)
        if (in_comment) {
            if (two == "*/") {
                in_comment = 0
                i++
                out = out " "
            }
        } else if (two == "/*") {
            in_comment = 1
            i++
        } else if (two == "//") {
            break
        } else if ((c == "\"" || c == "'") && !include_line) {
            out = out c
            for (i++; i <= n; i++) {
                d = substr(line, i, 1)
                if (d == "\\")
                    i++
                else if (d == c)
                    break
            }
            out = out c
        } else {
            out = out c
        }
    }
    print out
}
