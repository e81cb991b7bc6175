# fish completion for howdah:  howdah completion fish | source
function __howdah_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    set -l offers ($program complete -- $words 2>/dev/null)
    if test (count $offers) -gt 0
        printf '%s\n' $offers
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c howdah -f -a '(__howdah_complete)'
