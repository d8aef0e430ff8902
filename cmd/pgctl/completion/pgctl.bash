# bash completion for pgctl (bash 4 and later). Source it, or put it into
# /etc/bash_completion.d: pgctl completion bash > /etc/bash_completion.d/pgctl
_pgctl() {
	local line="${COMP_LINE:0:COMP_POINT}" cur part kind="" rest
	local -a words=()
	# Readline splits at = and :, pgctl does not.
	read -ra words <<<"$line"
	[[ $line == *[[:space:]] ]] && words+=("")
	cur="${words[${#words[@]} - 1]}"
	part="$cur"
	[[ $COMP_WORDBREAKS == *=* ]] && part="${part##*=}"
	[[ $COMP_WORDBREAKS == *:* ]] && part="${part##*:}"
	part="${cur%"$part"}"
	COMPREPLY=()
	while IFS=$'\t' read -r line rest; do
		if [[ -z $kind ]]; then
			kind="$line"
		else
			COMPREPLY+=("${line#"$part"}")
		fi
	done < <("${words[0]}" __complete -- "${words[@]:1}" 2>/dev/null)
	if [[ $kind == files ]]; then
		compopt -o default 2>/dev/null
	elif [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then
		compopt -o nospace 2>/dev/null
	fi
}
complete -F _pgctl pgctl
