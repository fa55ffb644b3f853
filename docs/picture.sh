#!/bin/sh
# Makes an SVG of a picture in words: see docs/picture.txt for these. Needs nothing but awk.
set -eu

awk '
function text(x, y, class, words) {
    gsub(/&/, "\\&amp;", words); gsub(/</, "\\&lt;", words)
    printf "<text x=\"%d\" y=\"%d\" class=\"%s\">%s</text>\n", x, y, class, words
}
function rest(from,    i, words) {
    for (i = from; i <= NF; i++) words = words (i > from ? " " : "") $i
    return words
}
BEGIN { left = 120; wide = 210; high = 78; column = 290; row = 130 }
/^#/ || NF == 0 { next }
$1 == "lane" { lane[$2] = rest(3); if ($2 > rows) rows = $2; next }
$1 == "box" || $1 == "trusted" {
    order[++boxes] = $2; kind[$2] = $1; words[$2] = rest(5)
    x[$2] = left + $3 * column; y[$2] = 20 + $4 * row
    if ($3 > columns) columns = $3
    if ($4 > rows) rows = $4
    next
}
$1 == "arrow" { from[++arrows] = $2; to[arrows] = $3; label[arrows] = rest(4); next }
{ printf "%s:%d: what is %s?\n", FILENAME, FNR, $1 >"/dev/stderr"; failed = 1; exit 1 }
END {
    if (failed) exit 1
    width = left + columns * column + wide + 20; height = 20 + rows * row + high + 20
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" font-family=\"sans-serif\" font-size=\"13\">\n", width, height, width
    print "<style>text{fill:#222}.title{font-weight:bold}.lane,.label{fill:#555;font-style:italic}.title,.line,.label{text-anchor:middle}"
    print "rect{fill:#fff;stroke:#888}.trusted{stroke:#1a6b3c;stroke-width:3}line{stroke:#444;stroke-width:1.5;marker-end:url(#tip)}</style>"
    print "<defs><marker id=\"tip\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0L10 5L0 10z\" fill=\"#444\"/></marker></defs>"
    printf "<rect x=\"0\" y=\"0\" width=\"%d\" height=\"%d\" style=\"stroke:none\"/>\n", width, height
    for (r = 0; r <= rows; r++) text(10, 20 + r * row + high / 2 + 4, "lane", lane[r])
    for (i = 1; i <= boxes; i++) {
        b = order[i]
        printf "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"6\" class=\"%s\"/>\n", x[b], y[b], wide, high, kind[b]
        n = split(words[b], part, "|")
        for (j = 1; j <= n; j++) text(x[b] + wide / 2, y[b] + (high - n * 19) / 2 + j * 19 - 5, j == 1 ? "title" : "line", part[j])
    }
    for (i = 1; i <= arrows; i++) {
        a = from[i]; b = to[i]
        if (!(a in x) || !(b in x)) { printf "no box %s or %s\n", a, b >"/dev/stderr"; exit 1 }
        if (y[a] == y[b]) {
            right = x[b] > x[a]
            x1 = right ? x[a] + wide : x[a]; x2 = right ? x[b] : x[b] + wide; y1 = y2 = y[a] + high / 2
            text((x1 + x2) / 2, y1 - 8, "label", label[i])
        } else {
            x1 = x2 = x[a] + wide / 2; y1 = y[a] + high; y2 = y[b]
            text(x1 + 30, (y1 + y2) / 2 + 4, "label", label[i])
        }
        printf "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\"/>\n", x1, y1, x2, y2
    }
    print "</svg>"
}' "$1"
