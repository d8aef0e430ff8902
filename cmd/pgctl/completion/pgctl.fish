# fish completion for pgctl: pgctl completion fish > ~/.config/fish/completions/pgctl.fish
function __pgctl_complete
	set -l before (commandline -opc)
	set -l current (commandline -ct)
	set -l lines ($before[1] __complete -- $before[2..-1] "$current" 2>/dev/null)
	if test "$lines[1]" = files
		__fish_complete_path "$current"
	else if test (count $lines) -gt 1
		printf '%s\n' $lines[2..-1]
	end
end
complete -c pgctl -f -a '(__pgctl_complete)'
