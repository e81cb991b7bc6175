# bash completion for howdah:  source <(howdah completion bash)
_howdah() {
  local word offer means
  # Only what stands before the cursor counts. Bash takes "--flag=value" apart at the "="; it is put together again.
  local line=("${COMP_WORDS[@]:1:COMP_CWORD}") words=() i
  for ((i = 0; i < ${#line[@]}; i++)); do
    if [[ ${line[i]} == = && ${#words[@]} -gt 0 ]]; then
      words[-1]+="="
      if ((i + 1 < ${#line[@]})); then ((++i)); words[-1]+=${line[i]}; fi
    else
      words+=("${line[i]}")
    fi
  done
  COMPREPLY=()
  while IFS=$'\t' read -r offer means; do
    [[ ${COMP_WORDBREAKS} == *=* ]] && offer=${offer#*=}
    COMPREPLY+=("$offer")
  done < <("${COMP_WORDS[0]}" complete -- "${words[@]}" 2>/dev/null)
}
complete -o default -F _howdah howdah
