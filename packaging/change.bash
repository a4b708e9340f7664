# A change to a few files: begun, and then kept or undone. Sourced by packaging/install.
#
# What is to be changed is kept beside it under another name, by a hard link: no path is ever empty meanwhile, and undoing needs
# no space. The names begin with a dot, for no include of nginx' matches that. A run that was killed is undone by the next one,
# but for what somebody else has written since.
#
#   $journal/files   "+ FILE" was there, "- FILE" was not, "/ DIRECTORY" was not
#   $journal/made    what was put there: its mark, a tab, FILE

beside() { echo "${1%/*}/.${1##*/}.$2"; }

# What tells a file from another: its content, and whether it is a link.
mark() {
    [[ ! -L $1 ]] || printf '%s ' "$(readlink "$1")"
    sha256sum <"$1" 2>/dev/null || echo "nothing"
}

# A link stands before what it points to.
begin() {  # FILE…, of whose directories $made_directories will have those that have to be made
    local file
    made_directories=()
    rm -rf "$journal.new"
    mkdir -p "$journal.new"
    for file in "$@"; do
        if [[ -e $file || -L $file ]]; then echo "+ $file"; else echo "- $file"; fi
        file=${file%/*}
        while [[ ! -d $file ]]; do
            echo "/ $file"
            made_directories=("$file" "${made_directories[@]}")
            file=$(dirname "$file")
        done
    done >"$journal.new/files"
    mv -T "$journal.new" "$journal"
    trap undo EXIT
    trap 'exit 130' INT TERM HUP
    for file in "$@"; do
        [[ -e $file || -L $file ]] || continue
        ln -fP "$file" "$(beside "$file" before)" 2>/dev/null || {
            cp -aT "$file" "$(beside "$file" new)"
            mv -fT "$(beside "$file" new)" "$(beside "$file" before)"
        }
    done
}

put() {  # FILE, content from stdin: by rename, for one that runs has the file mapped
    local new
    new=$(beside "$1" new)
    cat >"$new"
    chmod 644 "$new"
    _take "$new" "$1"
}
put_link() {  # TARGET FILE
    local new
    new=$(beside "$2" new)
    ln -sfT "$1" "$new"
    _take "$new" "$2"
}
_take() {
    printf '%s\t%s\n' "$(mark "$1")" "$2" >>"$journal/made"
    mv -fT "$1" "$2"
}

# Whether FILE is neither what was there nor what was put there.
_is_of_others() {
    local kept
    [[ -e $1 || -L $1 ]] || return 1
    kept=$(beside "$1" before)
    if [[ -e $kept || -L $kept ]] && [[ $(mark "$kept") == "$(mark "$1")" ]]; then return 1; fi
    ! grep -qsxF "$(mark "$1")"$'\t'"$1" "$journal/made"
}

undo() {
    trap '' INT TERM HUP
    trap - EXIT
    local kind file kept
    while read -r kind file; do
        [[ $kind != / ]] || continue
        kept=$(beside "$file" before)
        rm -f "$(beside "$file" new)"
        if _is_of_others "$file"; then
            echo "build.sh: $file has been written by somebody else since: it stays" >&2
        elif [[ $kind == - ]]; then
            rm -f "$file" || true
        elif [[ -e $kept || -L $kept ]] && ! [[ -e $file && $(mark "$kept") == "$(mark "$file")" ]]; then
            mv -fT "$kept" "$file" || {
                echo "build.sh: $file could not be put back: it is in $kept" >&2
                continue
            }
        fi
        rm -f "$kept"
    done <"$journal/files"
    # The deepest was noted first.
    while read -r kind file; do
        [[ $kind != / ]] || rmdir "$file" 2>/dev/null || true
    done <"$journal/files"
    mv -T "$journal" "$journal.new"
    _clean
}

keep() {
    trap '' INT TERM HUP
    trap - EXIT
    mv -T "$journal" "$journal.new"  # from here on it is not undone
    _clean
}

# What a run that was killed has left when nothing is to be undone any more, or not yet.
_clean() {
    local kind file
    if [[ -f $journal.new/files ]]; then
        while read -r kind file; do
            [[ $kind == / ]] || rm -f "$(beside "$file" before)" "$(beside "$file" new)"
        done <"$journal.new/files"
    fi
    rm -rf "$journal.new"
    _tidy
}
_tidy() { rmdir "${journal%/*}" 2>/dev/null || true; }

# One at a time; nothing of an earlier one is left.
alone() {
    exec 9>/run/ngx_http_rooms.lock
    flock -n 9 || fail "another install or uninstall is running"
    _clean
    if [[ -f $journal/files ]]; then
        echo "build.sh: one before was interrupted: undoing what it did" >&2
        undo
        trap - INT TERM HUP
    fi
    rm -rf "$journal"
    _tidy
}
